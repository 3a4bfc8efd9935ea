"""`flukeprint review DIR`: decide in a browser. `flukeprint reviewers ...`: who may, where a login is asked for."""

import os
import shlex
import socket
import webbrowser
from contextlib import closing
from threading import Timer
from typing import Annotated, Literal

from typer import Argument, Option, Typer, echo

from flukeprint.cli.arguments import Place, Who
from flukeprint.core.errors import FlukeprintError

_LOOPBACK = ("127.0.0.1", "localhost")
# Seconds after which the browser is opened: the server answers by then.
_SOON = 1.5

# Seconds that it goes on answering after Ctrl+C.
_LAST_ANSWERS = 3

# Seconds after which a worker process that says nothing is replaced: on a busy machine it takes long to start.
_HUNG = 120

app = Typer(no_args_is_help=True)


@app.callback()
def reviewers() -> None:
    """Say who may use the review page where it asks for a login."""


@app.command("add")
def add(
    name: Annotated[str, Argument(metavar="NAME", help="The name that stands in the log.")],
    role: Annotated[Literal["look", "decide", "administer"], Option(help="What they may do.")] = "decide",
    days: Annotated[int, Option(metavar="N", min=1, max=3650, help="After so many days the token ends.")] = 90,
    place: Place = "catalogue",
) -> None:
    """Let somebody in, or give them another role; print a token to log in with, this once."""
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.review.reviewers import let_in

    echo(let_in(open_catalogue(place), name, role, days))


@app.command("end")
def end(
    name: Annotated[str, Argument(metavar="NAME", help="The name that stands in the log.")], place: Place = "catalogue"
) -> None:
    """End all tokens and sessions of somebody. Their decisions stay."""
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.review.reviewers import shut_out

    shut_out(open_catalogue(place), name)


@app.command("list")
def list_(place: Place = "catalogue") -> None:
    """List the reviewers, their roles, and until when they may come in."""
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.core.safe_text import printable
    from flukeprint.review.reviewers import reviewers_of

    for one in reviewers_of(open_catalogue(place)):
        echo(f"{printable(one.name)}  {one.role}  {one.until or 'no valid token'}")


def review(  # noqa: PLR0913, PLR0917
    place: Annotated[
        str, Argument(metavar="[DIR|URL]", envvar="FLUKEPRINT_CATALOGUE", help="The catalogue.")
    ] = "catalogue",
    who: Who = None,
    host: Annotated[
        str, Option(metavar="ADDRESS", help="Where to listen. Elsewhere than here it asks for a login.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(metavar="N", min=0, max=65535, help="0: any that is free.")] = 8420,
    allow_host: Annotated[
        list[str] | None, Option(metavar="NAME", help="A name that browsers ask for it by; repeat.")
    ] = None,
    login: Annotated[bool, Option("--login", help="Ask for a login here too.")] = False,
    two_reviewers: Annotated[bool, Option("--two-reviewers", help="Ask for a second opinion on decisions.")] = False,
    workers: Annotated[int, Option(metavar="N", min=1, max=64, help="Processes that answer.")] = 1,
    open_: Annotated[bool, Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Decide in a browser, by keyboard: photos beside candidates.

    Ctrl+C ends it; nothing saved is lost.
    """
    from flukeprint.catalogue.catalogues import printed
    from flukeprint.cli.decide import name_of
    from flukeprint.review.settings import LOOPBACK, VARIABLE, ReviewSettings

    asks = login or host not in _LOOPBACK
    _refuse_unreachable(place, host, allow_host, asks=asks)
    settings = ReviewSettings(
        place, "" if asks else name_of(who), asks, (*LOOPBACK, *(allow_host or ())), two_reviewers
    )
    os.environ[VARIABLE] = settings.dumped()
    port = _free_port(host, port)
    address = f"http://{host}:{port}/"
    echo(f"{printed(place)}: {address} (Ctrl+C ends it)")
    if open_:
        Timer(_SOON, webbrowser.open, (address,)).start()
    _serve(host, port, workers)


def _refuse_unreachable(place: str, host: str, allow_host: list[str] | None, *, asks: bool) -> None:
    """Refuse a catalogue that is none, and a server that nobody could use: without a token, or without a name."""
    from flukeprint.catalogue.catalogues import open_catalogue, printed
    from flukeprint.review.reviewers import reviewers_of

    opened = open_catalogue(place)
    if asks and not any(one.until for one in reviewers_of(opened)):
        raise FlukeprintError(
            f"it would ask for a login, and nobody has a token: `flukeprint reviewers add NAME --role administer "
            f"--catalogue {shlex.quote(printed(place))}` makes one."
        )
    if host not in _LOOPBACK and not allow_host:
        raise FlukeprintError(f"by which name do browsers ask for it? Say it: --allow-host NAME (listening on {host}).")


def _serve(host: str, port: int, workers: int) -> None:
    """Answer until Ctrl+C."""
    import uvicorn

    uvicorn.run(
        "flukeprint.review.application:from_environment", factory=True, host=host, port=port, workers=workers,
        log_level="warning", server_header=False, timeout_worker_healthcheck=_HUNG,
        timeout_graceful_shutdown=_LAST_ANSWERS, h11_max_incomplete_event_size=32 * 1024,
    )  # fmt: skip


def _free_port(host: str, port: int) -> int:
    """Return the port to listen on; refuse one that is taken."""
    with closing(socket.socket()) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            raise FlukeprintError(
                f"{host}:{port} cannot be listened on ({error.strerror}). Name another port: --port 0 takes any."
            ) from None
        return int(tried.getsockname()[1])
