"""The command line: `flukeprint COMMAND`. Each command is a function in a module of its own."""

from collections.abc import Sequence

import typer

from flukeprint.cli import catalogue, gallery
from flukeprint.cli import review as review_commands
from flukeprint.cli.compare import compare
from flukeprint.cli.export import export
from flukeprint.cli.fit_local import fit_local
from flukeprint.cli.identify import identify
from flukeprint.cli.members import members
from flukeprint.cli.quality import quality
from flukeprint.cli.results import results
from flukeprint.cli.review import review
from flukeprint.cli.score import score
from flukeprint.cli.verify import verify
from flukeprint.core.console import exit_cleanly
from flukeprint.core.errors import FlukeprintError

# The extra that brings a package; all others come with the pipeline.
_EXTRAS = {"fastapi": "review", "uvicorn": "review", "cv2": "local", "kornia": "local"}

app = typer.Typer(
    help="Identify individual humpback whales from photos of their flukes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich is slow to import
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (identify, verify, export, fit_local, results, compare, score, quality, review, members):
    app.command()(_command)
app.add_typer(gallery.app, name="gallery")
app.add_typer(catalogue.app, name="catalogue")
app.add_typer(review_commands.app, name="reviewers")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name; exit with 2 if they make no sense, 1 for errors, 130 for Ctrl+C.

    A change that was made, or a file that was written, is none of these: where it cannot be printed, stderr says so.
    """
    exit_cleanly(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    try:
        app(arguments, prog_name="flukeprint")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("flukeprint"):
            raise
        extra = _EXTRAS.get(str(error.name), "pipeline")
        raise FlukeprintError(
            f"the package {error.name} is not installed. This command needs more packages: install them too, "
            f"`pip install 'flukeprint[{extra}]'`."
        ) from None
    except SystemExit as end:  # typer ends a command that went well like this, too
        if end.code:
            raise
