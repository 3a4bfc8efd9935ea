"""`flukeprint fit-local`: what matched keypoints say, learned from this project's calibration queries."""

from typing import Annotated

from typer import Option

from flukeprint.cli.arguments import Networks
from flukeprint.core.console import say_done


def fit_local(
    side: Annotated[int, Option(metavar="PX", min=64, max=2048, help="Longer side of the pictures compared.")] = 320,
    first: Annotated[int, Option(metavar="N", min=2, max=40, help="How many candidates to look at.")] = 10,
    photos: Annotated[int, Option(metavar="N", min=1, max=100, help="How many photos of each to look at.")] = 3,
    networks: Networks = None,
) -> None:
    """Fit `identify --local` to this project's queries.

    Writes models/local.json, from the calibration queries; where the decision is kept, from data/kept/local.json.
    `export` puts it into a bundle, whose pictures are small: with larger ones (--side) only the project can re-rank.
    """
    from flukeprint.core.paths import DECISION
    from flukeprint.identify.local_fitting import fit_local as fitted_to_queries

    fitted = fitted_to_queries(side, first, photos, networks)
    fitted.write(DECISION.parent)
    note = f", {fitted.note}" if fitted.note else ""
    say_done(
        f"{DECISION.parent / fitted.NAME}{note}: {fitted.queries} queries, {fitted.right} with their whale among "
        f"{first} candidates; log-loss of these {fitted.log_loss_before:.3f} before, {fitted.log_loss:.3f} after."
    )
