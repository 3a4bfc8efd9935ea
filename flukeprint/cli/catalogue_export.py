"""`flukeprint catalogue export ...` and `flukeprint catalogue snapshot`: what a catalogue gives to others."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option, Typer, echo

from flukeprint.cli.arguments import Place, check_output
from flukeprint.core.wording import counted

if TYPE_CHECKING:
    from flukeprint.catalogue.positions import Precision
    from flukeprint.catalogue.sightings import Holdings

PrecisionText = Annotated[
    str | None,
    Option("--precision", metavar="SIZE", help="Give positions as centres of cells, as 10km or 0.1deg."),
]
Species = Annotated[str, Option(metavar="NAME", help="Genus and species.")]
HUMPBACK = "Megaptera novaeangliae"
NewFolder = Annotated[Path, Argument(metavar="FOLDER", help="New.")]

app = Typer(no_args_is_help=True)


@app.callback()
def export() -> None:
    """Write tables and photos for other programs and people.

    The same catalogue gives the same bytes. Shared photos carry no metadata; positions can be blurred (--precision).
    """


def _read(place: str, precision: str | None) -> "tuple[Holdings, Precision | None]":
    """Return what a catalogue holds, with positions as exact as they are to be given."""
    from dataclasses import replace

    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.catalogue.positions import blurred, precision_of
    from flukeprint.catalogue.sightings import holdings_of

    cells = precision_of(precision)
    holdings = holdings_of(open_catalogue(place))
    return replace(holdings, sightings=blurred(holdings.sightings, cells)), cells


def _say_positions(holdings: "Holdings", cells: "Precision | None") -> None:
    located = sum(one.latitude is not None for one in holdings.sightings)
    if located:
        exact = "exact (--precision 10km blurs them)" if cells is None else f"centres of cells of {cells.said}"
        echo(f"positions of {counted(located, 'photo')}: {exact}")


@app.command()
def sightings(
    to: Annotated[Path, Argument(metavar="OUT", help="A .csv (UTF-8), .xlsx (for Excel) or .json file.")],
    place: Place = "catalogue",
    precision: PrecisionText = None,
) -> None:
    """Write all photos as a table: when, where, whom each shows."""
    from flukeprint.catalogue.export_tables import SIGHTING_COLUMNS, sighting_rows
    from flukeprint.catalogue.exported_files import write_table

    check_output("OUT", to)
    holdings, cells = _read(place, precision)
    write_table(to, SIGHTING_COLUMNS, sighting_rows(holdings.sightings, cells))
    echo(f"{to}: {counted(len(holdings.sightings), 'photo')}")
    _say_positions(holdings, cells)


@app.command()
def individuals(
    to: Annotated[Path, Argument(metavar="OUT", help="A .csv (UTF-8), .xlsx (for Excel) or .json file.")],
    place: Place = "catalogue",
) -> None:
    """Write all individuals as a table: how often each was seen."""
    from flukeprint.catalogue.export_tables import INDIVIDUAL_COLUMNS, individual_rows
    from flukeprint.catalogue.exported_files import write_table

    check_output("OUT", to)
    holdings, _ = _read(place, None)
    write_table(to, INDIVIDUAL_COLUMNS, individual_rows(holdings))
    echo(f"{to}: {counted(len(holdings.individuals), 'individual')}")


@app.command()
def decisions(
    to: Annotated[Path, Argument(metavar="OUT", help="A .csv or .json file.")], place: Place = "catalogue"
) -> None:
    """Write the whole log of decisions, undone ones as well.

    Who decided what and when, what was shown to them, and whether it still holds.
    """
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.catalogue.export_tables import DECISION_COLUMNS, decision_rows
    from flukeprint.catalogue.exported_files import write_table
    from flukeprint.catalogue.sightings import decisions_of

    check_output("OUT", to)
    log = decisions_of(open_catalogue(place))
    write_table(to, DECISION_COLUMNS, decision_rows(_read(place, None)[0], log))
    echo(f"{to}: {counted(len(log), 'decision')}")


@app.command("darwin-core")
def darwin_core(
    to: Annotated[Path, Argument(metavar="OUT.zip", help="The archive.")],
    creator: Annotated[str, Option(metavar="NAME", help="Person or organisation that publishes.")],
    place: Place = "catalogue",
    title: Annotated[str, Option(metavar="TEXT", help="Of the data set.")] = "Photo-identified whales",
    licence: Annotated[Literal["cc0", "cc-by", "cc-by-nc"] | None, Option(help="GBIF asks for one.")] = None,
    species: Species = HUMPBACK,
    precision: PrecisionText = None,
) -> None:
    """Write a Darwin Core Archive, as GBIF and OBIS take it.

    An occurrence is a whale in an encounter.
    """
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.catalogue.darwin_core import DataSet, write_darwin_core
    from flukeprint.catalogue.sightings import decisions_of

    check_output("OUT.zip", to)
    holdings, cells = _read(place, precision)
    log = decisions_of(open_catalogue(place))
    count = write_darwin_core(to, holdings.sightings, log, DataSet(title, creator, species, licence), cells)
    echo(f"{to}: {counted(count, 'occurrence')}")
    _say_positions(holdings, cells)


@app.command()
def histories(
    to: NewFolder,
    place: Place = "catalogue",
    by: Annotated[Literal["day", "month", "year"], Option(help="What an occasion is.")] = "year",
    cell: Annotated[float, Option(metavar="KM", min=0.01, help="Side of the cells that secr has as detectors.")] = 5.0,
) -> None:
    """Write capture histories for MARK, RMark, marked and secr.

    MARK's .inp, a .csv for R, and traps, captures and a matrix for secr. Positions are told as cells alone.
    """
    from flukeprint.catalogue.capture_history import histories_of, write_histories

    holdings, _ = _read(place, None)
    found = histories_of(holdings.sightings, by, cell)
    write_histories(to, found)
    seen, occasions = counted(len(found.seen), "individual"), counted(len(found.occasions), "occasion")
    echo(f"{to}: {seen}, {occasions} (each a {by} with photos)")
    if found.without_date:
        echo(f"left out: {counted(found.without_date, 'photo')} of individuals, of which the {by} is not known")
    detectors = (
        f"{counted(len(found.cells), 'cell')} of {cell:g} km" if found.cells else "none, no photo has a position"
    )
    echo(f"detectors for secr: {detectors}")


@app.command()
def wildbook(
    to: NewFolder,
    place: Place = "catalogue",
    species: Species = HUMPBACK,
    location_id: Annotated[str | None, Option(metavar="ID", help="That your Wildbook has for the study site.")] = None,
    submitter: Annotated[str | None, Option(metavar="USER", help="Your user name there.")] = None,
    precision: PrecisionText = None,
) -> None:
    """Write sheets and photos for Wildbook's bulk import."""
    from flukeprint.catalogue.wildbook_sheet import write_wildbook

    holdings, cells = _read(place, precision)
    done = write_wildbook(to, holdings.sightings, species, location_id, submitter)
    echo(f"{to}: {counted(done.encounters, 'encounter')} in {counted(done.sheets, 'sheet')}, photos without metadata")
    if done.without_year:
        echo(f"left out: {counted(done.without_year, 'encounter')} without a year, which Wildbook asks for")
    if done.without_place:
        echo(f"{counted(done.without_place, 'encounter')} without a place, which Wildbook asks for (--location-id ID)")
    _say_anew(done.encoded_anew)
    _say_positions(holdings, cells)


def _say_anew(photos: int) -> None:
    if photos:
        echo(f"{counted(photos, 'photo')}, neither JPEG nor PNG, made PNG")


@app.command()
def photos(
    to: Annotated[Path, Argument(metavar="OUT.zip", help="The archive.")],
    place: Place = "catalogue",
    precision: PrecisionText = None,
) -> None:
    """Write the photos as a zip archive, a folder per individual."""
    from flukeprint.catalogue.photo_archive import write_photo_archive

    check_output("OUT.zip", to)
    holdings, cells = _read(place, precision)
    count, anew = write_photo_archive(to, holdings.sightings, cells)
    echo(
        f"{to}: {counted(count, 'photo')} without metadata; {len(holdings.sightings) - count} of nobody known left out"
    )
    _say_anew(anew)
    _say_positions(holdings, cells)


def snapshot(
    to: Annotated[Path, Option("--to", metavar="FOLDER", help="Where snapshots are kept.")] = Path("data/snapshots"),
    place: Place = "catalogue",
    undecided: Annotated[
        Literal["leave-out", "new-whale"], Option(help="What of photos that nobody decided.")
    ] = "leave-out",
) -> None:
    """Write what was decided, for the pipeline to train on.

    It is an immutable table, named by its content; photos stay where they are.
    """
    from flukeprint.catalogue.snapshots import take_snapshot

    holdings, _ = _read(place, None)
    done = take_snapshot(to, holdings.sightings, undecided_as_new=undecided == "new-whale")
    photos, individuals = counted(done.photos, "photo"), counted(done.individuals, "individual")
    echo(f"{done.path}: {photos} of {individuals} in {counted(done.encounters, 'encounter')}")
    if done.undecided:
        what = "in it as new_whale" if undecided == "new-whale" else "left out (--undecided new-whale)"
        echo(f"{counted(done.undecided, 'photo')} that nobody decided: {what}")
    change = shlex.quote(f"profiles.catalogue.path={done.path}")
    echo(f"Train on it: dvc exp run -S profile=catalogue -S {change}")
