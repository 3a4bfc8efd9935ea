"""`flukeprint identify PHOTO|FOLDER`: whom a photo may show."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Exit, Option, echo

from flukeprint.cli.arguments import Bundle, Gallery, Local, Networks, check_networks, check_output
from flukeprint.core.console import say_done


def identify(
    photos: Annotated[list[Path], Argument(metavar="PHOTO|FOLDER", help="A folder with all folders in it.")],
    top: Annotated[int, Option(metavar="N", min=1, max=20, help="How many candidates to name.")] = 5,
    form: Annotated[Literal["table", "json", "csv"], Option("--format", help="What to print.")] = "table",
    html: Annotated[Path | None, Option(metavar="FILE", help="Also write a page with photos side by side.")] = None,
    bundle: Bundle = None,
    gallery: Gallery = None,
    local: Local = False,
    networks: Networks = None,
) -> None:
    """Name the individuals that a photo may show, best first.

    Each photo is compared with the gallery. Printed are candidates with their probability, and the probability of a
    whale that is not in the gallery. People decide: this is a ranking, not a verdict.

    Exit code 1 if a photo could not be read; the others are answered.
    """
    from flukeprint.bundle.opening import open_model
    from flukeprint.data.reading import list_photos
    from flukeprint.identify import answers, formats

    check_networks(networks, local=local)
    listed = list_photos(photos)
    check_output("--html", html, listed)
    found = answers.identify(open_model(bundle, gallery), listed, top, local=local, networks=networks)
    # Before anything is printed: whoever reads only the start (`| head`) gets the page all the same.
    if html:
        from flukeprint.identify.identification_page import write_page

        write_page(html, found)
    write = {"table": formats.as_table, "json": formats.as_json, "csv": formats.as_csv}[form]
    (say_done if html else echo)(write(found).rstrip("\n"))
    if found.failed:
        raise Exit(1)
