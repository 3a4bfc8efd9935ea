"""`flukeprint results`: what the last run reached."""

from typer import echo


def results() -> None:
    """Print the last `dvc repro`'s scores, and where its files are."""
    from flukeprint.evaluation.results import results_text

    echo(results_text())
