"""`flukeprint verify A B`: whether two photos show the same whale."""

from pathlib import Path
from typing import Annotated

from typer import Argument, echo

from flukeprint.cli.arguments import Bundle, Json


def verify(
    first: Annotated[Path, Argument(metavar="A", help="A photo.")],
    second: Annotated[Path, Argument(metavar="B", help="Another photo.")],
    json: Json = False,
    bundle: Bundle = None,
) -> None:
    """Say how likely two photos show the same whale.

    Printed are the photos' similarity, the probability that both show one whale, and whether the similarity reaches
    the thresholds at which a stated share of pairs of different whales is accepted by mistake.
    """
    from flukeprint.bundle.opening import open_model
    from flukeprint.identify.pair import as_json, as_text, compare

    echo((as_json if json else as_text)(compare(open_model(bundle, None), first, second)))
