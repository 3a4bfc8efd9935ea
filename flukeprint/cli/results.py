"""`flukeprint results`: what the last run reached."""

from typing import Annotated

from typer import Option, echo


def results(members: Annotated[bool, Option("--all", help="Also the members, one by one.")] = False) -> None:
    """Print the last `dvc repro`'s scores, and where its files are."""
    from flukeprint.evaluation.results import results_text

    echo(results_text(members=members))
