"""`flukeprint catalogue ...`: individuals, encounters and people's decisions."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Exit, Option, Typer, echo

from flukeprint.cli import catalogue_export, decide
from flukeprint.cli.arguments import Json, Local, Machines, Networks, Place, Ray, Who, check_networks, machines_of
from flukeprint.cli.plain_network import MEAN, SIZE, STD, WEIGHTS, Backbone, Mean, Size, Std, Weights, export_network
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.wording import counted

if TYPE_CHECKING:
    from flukeprint.bundle.model import Model
    from flukeprint.catalogue.catalogues import Catalogue
    from flukeprint.catalogue.source_rows import Source
    from flukeprint.identify.reranking import LocalMatching

Layout = Annotated[
    Literal["individuals", "encounters"],
    Option("--folders", help="What a folder is: an individual (in it perhaps one per encounter), or an encounter."),
]
Conditions = list[str] | None
Photos = Annotated[Path | None, Option(metavar="DIR", help="A table's photos, if not beside it.")]
Columns = Annotated[Conditions, Option(metavar="NAME=HEADER", help="What is not to be guessed; repeat.")]
Dates = Annotated[Literal["day-first", "month-first"] | None, Option(help="How 3/4/2024 is to be read.")]

_SAME = "run the same command again to go on."

app = Typer(no_args_is_help=True)
app.add_typer(decide.app, name="decide")
app.add_typer(catalogue_export.app, name="export")


@app.callback()
def catalogue() -> None:
    """Keep a catalogue: import photos, match a season's, decide.

    Nothing is trained. Nothing is ever deleted: any decision can be undone.
    """


@app.command()
def create(  # noqa: PLR0913, PLR0917
    place: Annotated[str, Argument(metavar="[DIR|URL]", help="New; or postgresql://USER@HOST/NAME.")] = "catalogue",
    bundle: Annotated[Path | None, Option(metavar="DIR", help="The model to answer with: what `export` wrote.")] = None,
    backbone: Backbone = None,
    weights: Weights = WEIGHTS,
    size: Size = SIZE,
    mean: Mean = MEAN,
    std: Std = STD,
    source: Annotated[Path | None, Option("--from", metavar="FOLDER|TABLE", help="Import this at once.")] = None,
    folders: Layout = "individuals",
    photos: Photos = None,
    column: Columns = None,
    dates: Dates = None,
    store: Annotated[Path | None, Option(metavar="DIR", help="Where photos are kept, if it is a URL.")] = None,
    in_place: Annotated[bool, Option("--in-place", help="Leave photos where they are.")] = False,
    ray: Ray = None,
    who: Who = None,
) -> None:
    """Make a catalogue that answers with the model of a bundle, or with a pretrained network as it is (--backbone).

    A network as it is ranks by similarity, without probabilities; to make one needs `flukeprint[pipeline]`.
    Exit code 1 if a row or a photo of --from was left out; all others are added.
    """
    from flukeprint.catalogue.catalogues import create_catalogue, printed, refuse_full
    from flukeprint.catalogue.import_plan import read_source

    # What can be wrong is asked first.
    _refuse_both_or_neither(bundle, backbone)
    refuse_full(place)
    _refuse_idle(ray, source, "--from FOLDER|TABLE")
    found = None if source is None else read_source(source, folders, photos, column or (), day_first=_day_first(dates))
    make = partial(create_catalogue, place, store, in_place=in_place)
    with machines_of(ray) as machines:
        network = partial(_with_network, make, str(backbone), weights, size, (mean, std))
        made, model = network() if bundle is None else _with_bundle(make, bundle)
        echo(f"{printed(place)}: a catalogue that answers with {model}")
        if found is not None:
            again = _import_command(place, source, column, folders=folders, photos=photos, dates=dates, who=who)
            with _going_on(f"to go on: {again}"):
                _import_all(made, found, who, machines)


def _refuse_both_or_neither(bundle: Path | None, backbone: str | None) -> None:
    if (bundle is None) == (backbone is None):
        raise FlukeprintError("name what answers: a bundle (--bundle DIR), or a pretrained network (--backbone NAME).")


def _import_command(place: str, source: Path | None, column: Conditions, **options: object) -> str:
    """Return the command that goes on with the import that an interrupted `create` began."""
    from flukeprint.catalogue.catalogues import command

    given = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return command(place, "import", str(source), *given, *(word for one in column or () for word in ("--column", one)))


@contextmanager
def _going_on(how: str) -> Iterator[None]:
    """Say how an import goes on that Ctrl+C interrupts."""
    try:
        yield
    except KeyboardInterrupt:
        echo(f"Interrupted. What was added stays; {how}", err=True)
        raise


def _refuse_idle(ray: str | None, source: Path | None, option: str) -> None:
    """Refuse machines that would have no photo to read."""
    if ray is not None and source is None:
        raise FlukeprintError(f"--ray says who reads new photos, and none are named. Name some ({option}).")


def _with_bundle(make: "Callable[[], Catalogue]", bundle: Path) -> "tuple[Catalogue, str]":
    """Make a catalogue that a bundle's model answers, and say which; the bundle may be refused before."""
    from flukeprint.bundle.opening import open_bundle
    from flukeprint.catalogue.vector_cache import use_model

    open_bundle(bundle)
    use_model(made := make(), bundle)
    return made, f"the model in {bundle}"


def _with_network(
    make: "Callable[[], Catalogue]", name: str, weights: str, size: str, scaling: tuple[Mean, Std]
) -> "tuple[Catalogue, str]":
    """Make a catalogue that a pretrained network answers as it is, and say so; the network may be refused before."""
    from flukeprint.catalogue.vector_cache import use_plain_model

    with TemporaryDirectory() as temporary:
        export_network(network := Path(temporary) / "bundle", name, weights, size, scaling)
        use_plain_model(made := make(), network)
    return made, f"the network {name}, by similarity alone"


@app.command("import")
def import_(  # noqa: PLR0913, PLR0917
    source: Annotated[Path, Argument(metavar="FOLDER|TABLE", help="A folder of photos, or a CSV or XLSX file.")],
    place: Place = "catalogue",
    folders: Layout = "individuals",
    photos: Photos = None,
    column: Columns = None,
    dates: Dates = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Say row by row what would happen; change nothing.")] = False,
    ray: Ray = None,
    who: Who = None,
) -> None:
    """Add photos; what is there already stays as it is. What was interrupted goes on where it was.

    Exit code 1 if a row or a photo was left out; all others are added.
    """
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.catalogue.import_plan import read_source

    opened = open_catalogue(place)
    found = read_source(source, folders, photos, column or (), day_first=_day_first(dates))
    if dry_run:
        from flukeprint.catalogue.import_plan import planned, tried
        from flukeprint.catalogue.import_words import plan_text

        echo(plan_text(found, tried(planned(opened, found))))
        return
    with machines_of(ray) as machines, _going_on(_SAME):
        _import_all(opened, found, who, machines)


def _import_all(opened: "Catalogue", source: "Source", who: str | None, machines: Machines) -> None:
    """Import and say what was done; exit with 1 if a row was left out."""
    if _import(opened, source, who, machines):
        raise Exit(1)


def _day_first(dates: str | None) -> bool | None:
    return None if dates is None else dates == "day-first"


def _import(opened: "Catalogue", source: "Source", who: str | None, machines: Machines, *, aside: bool = False) -> int:
    """Import and say what was done, `aside` on standard error; return how many rows were left out."""
    from flukeprint.catalogue.import_plan import planned
    from flukeprint.catalogue.import_words import done_text, left_out
    from flukeprint.catalogue.importing import Import
    from flukeprint.catalogue.vector_cache import open_model_of

    model, number = open_model_of(opened)
    plan = planned(opened, source)
    done = Import(opened, replace(model, machines=machines), number, decide.name_of(who)).carry_out(plan)
    echo(done_text(source, plan, done, opened.place), err=aside)
    return left_out(plan, done)


@app.command()
def identify(  # noqa: PLR0913, PLR0917
    source: Annotated[Path | None, Argument(metavar="[FOLDER|TABLE]", help="New photos, imported first.")] = None,
    place: Place = "catalogue",
    photos: Photos = None,
    column: Columns = None,
    dates: Dates = None,
    only: Annotated[Conditions, Option(metavar="NAME=VALUE", help="Which encounters, as since=2026; repeat.")] = None,
    against: Annotated[Conditions, Option(metavar="NAME=VALUE", help="With which photos to compare; repeat.")] = None,
    top: Annotated[int, Option(metavar="N", min=1, max=20, help="How many candidates to name.")] = 3,
    local: Local = False,
    networks: Networks = None,
    as_json: Json = False,
    ray: Ray = None,
    who: Who = None,
) -> None:
    """Match encounters of nobody known with the catalogue's individuals, and among themselves.

    New photos are in a folder per encounter. Answers come in the order in which they are best decided.
    """
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.catalogue.import_plan import read_source
    from flukeprint.catalogue.restriction import restriction
    from flukeprint.catalogue.season import ask
    from flukeprint.catalogue.season_words import season_json, season_text
    from flukeprint.catalogue.vector_cache import open_model_of

    check_networks(networks, local=local)
    _refuse_idle(ray, source, "FOLDER or TABLE")
    opened, conditions = open_catalogue(place), (restriction(only or ()), restriction(against or ()))
    model, number = open_model_of(opened)
    # Before photos are imported: it may be refused.
    matching = _local_matching(model, networks) if local else None
    left_out = 0
    if source is not None:
        found = read_source(source, "encounters", photos, column or (), day_first=_day_first(dates))
        with machines_of(ray) as machines, _going_on(_SAME):
            left_out = _import(opened, found, who, machines, aside=as_json)
    season = ask(opened, model, number, *conditions, local=matching)
    echo(season_json(season) if as_json else season_text(season, top, place))
    if left_out:
        raise Exit(1)


def _local_matching(model: "Model", networks: Networks) -> "LocalMatching":
    from flukeprint.identify.reranking import LocalMatching  # only now: it needs packages of its own

    return LocalMatching.of(model, networks)


@app.command()
def audit(
    place: Place = "catalogue",
    top: Annotated[int, Option(metavar="N", min=1, help="How many of each kind to name.")] = 20,
    as_json: Json = False,
) -> None:
    """Name what is probably wrong: one whale under two ids, two under one, photos under a wrong one."""
    from flukeprint.catalogue.audit import audit as look
    from flukeprint.catalogue.audit_words import audit_text
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.catalogue.vector_cache import open_model_of

    opened = open_catalogue(place)
    found = look(opened, *open_model_of(opened), top)
    echo(json.dumps(asdict(found), indent=2) if as_json else audit_text(found, place))


@app.command()
def show(
    name: Annotated[str | None, Argument(metavar="[e12|p7|ID]", help="An encounter, a photo or an individual.")] = None,
    place: Place = "catalogue",
) -> None:
    """Say what there is: all in all, or of one encounter, photo or individual."""
    from flukeprint.catalogue.catalogue_words import described_thing, summary
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.catalogue.sightings import decisions_of, holdings_of

    opened = open_catalogue(place)
    holdings = holdings_of(opened)
    echo(summary(holdings) if name is None else described_thing(holdings, decisions_of(opened), name))


@app.command()
def log(place: Place = "catalogue", as_json: Json = False) -> None:
    """Print every decision: who, when, what, and whether it still holds."""
    from flukeprint.catalogue.catalogue_words import log_lines
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.catalogue.sightings import decisions_of

    found = decisions_of(open_catalogue(place))
    echo(json.dumps([asdict(one) for one in found], indent=2) if as_json else "\n".join(log_lines(found)))


@app.command()
def embed(
    place: Place = "catalogue",
    bundle: Annotated[Path | None, Option(metavar="DIR", help="Another model, to answer from then on.")] = None,
    ray: Ray = None,
) -> None:
    """Compute the vectors that are missing, of a new model all; it answers once it has them. May be interrupted.

    Exit code 1 if a photo's file could not be read.
    """
    from flukeprint.bundle.opening import open_bundle
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.catalogue.vector_cache import embed_missing, known_model, open_model_of, use_model

    opened = open_catalogue(place)
    if bundle is None:
        model, number = open_model_of(opened)
    else:
        model = open_bundle(bundle)
        number = known_model(opened, model)
    with machines_of(ray) as machines:
        count, failed = embed_missing(opened, replace(model, machines=machines), number)
    if bundle is not None:
        use_model(opened, bundle)
    echo("\n".join([*(f"! photo p{photo}: {why}" for photo, why in failed), f"{counted(count, 'vector')} computed"]))
    if failed:
        raise Exit(1)


@app.command()
def check(place: Place = "catalogue") -> None:
    """Compare the present state with the log of decisions, and the photos with their checksums.

    Exit code 1 if something is not as it should be.
    """
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.catalogue.checking import faults_of

    faults = faults_of(open_catalogue(place))
    echo("\n".join(faults) if faults else "the state is that of the log; every photo is there, unchanged")
    if faults:
        raise Exit(1)


app.command()(catalogue_export.snapshot)
