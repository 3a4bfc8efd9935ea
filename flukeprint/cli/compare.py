"""`flukeprint compare A.csv B.csv`: two runs on the same queries."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, echo

from flukeprint.cli.arguments import Json
from flukeprint.scoring.registry import ENSEMBLE


def compare(
    first: Annotated[Path, Argument(metavar="A.csv", help="reports/evaluation/queries.csv of one run.")],
    second: Annotated[Path, Argument(metavar="B.csv", help="The same file of another run.")],
    scorer: Annotated[
        str, Option(metavar="NAME", help="Whose answers to compare: a row of the leaderboard.")
    ] = ENSEMBLE,
    json: Json = False,
) -> None:
    """Tell whether run B is better than run A by more than chance.

    Both runs must have answered the same queries. Printed are the difference in MAP@5 (B - A), its 95 % interval over
    individuals, the p-value of a paired permutation test, and how many queries got better or worse.
    """
    from flukeprint.evaluation.comparison import as_json, as_text, compare_files

    echo((as_json if json else as_text)(compare_files(first, second, scorer)))
