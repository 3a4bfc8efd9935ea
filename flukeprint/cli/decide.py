"""`flukeprint catalogue decide ...`: what people decide, saved in the log."""

import getpass
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option, Typer, echo

from flukeprint.cli.arguments import Place, Who
from flukeprint.core.errors import FlukeprintError

if TYPE_CHECKING:
    from flukeprint.catalogue.deciding import Wish
    from flukeprint.catalogue.entities import Action

Seen = Annotated[int, Option(metavar="N", help="The last decision about it that you saw; 0: there was none.")]
Note = Annotated[str | None, Option(metavar="TEXT", help="Why.")]

app = Typer(no_args_is_help=True)


@app.callback()
def decide() -> None:
    """Decide whom encounters (e12) and photos (p7) show, and what individuals are called.

    Several at once are saved all or none. Each answer says how to undo it.
    """


def _about_somebody(action: "Action") -> Callable[..., None]:
    """Return the command that decides so about encounters or photos, and an individual."""

    def command(
        names: Annotated[list[str], Argument(metavar="e12|p7... ID", help="Encounters and photos; the individual.")],
        place: Place = "catalogue",
        who: Who = None,
        seen: Seen = 0,
        note: Note = None,
    ) -> None:
        *subjects, identity = names
        _save_about(action, subjects, who, place, {"individual": identity, "note": note, "seen": seen})

    return command


_SAYS: dict[Any, str] = {
    "confirm": "It shows this individual.",
    "new": "It shows an individual that is not in the catalogue, which gets this id.",
    "reject": "It does not show this individual.",
    "split": "It does not show whom it was taken for, but a new individual, which gets this id.",
}
for _action, _says in _SAYS.items():
    app.command(_action, help=_says)(_about_somebody(_action))


@app.command()
def unsure(
    subjects: Annotated[list[str], Argument(metavar="e12|p7...", help="Encounters and photos.")],
    place: Place = "catalogue",
    who: Who = None,
    seen: Seen = 0,
    note: Note = None,
) -> None:
    """Say that you looked, and cannot tell."""
    _save_about("unsure", subjects, who, place, {"note": note, "seen": seen})


@app.command()
def merge(
    old: Annotated[str, Argument(metavar="OLD", help="The individual that turned out to be another.")],
    into: Annotated[str, Argument(metavar="INTO", help="The other one, whose id both have from now on.")],
    place: Place = "catalogue",
    who: Who = None,
    note: Note = None,
) -> None:
    """Two individuals are one."""
    from flukeprint.catalogue.deciding import Wish

    _save([Wish("merge", individual=old, other=into, note=note)], place, who)
    echo(f"{old} is {into} from now on")


@app.command()
def rename(
    old: Annotated[str, Argument(metavar="OLD", help="The individual.")],
    to: Annotated[str | None, Option(metavar="ID", help="Its new id.")] = None,
    name: Annotated[str | None, Option(metavar="NAME", help="Its new name.")] = None,
    place: Place = "catalogue",
    who: Who = None,
    note: Note = None,
) -> None:
    """Give an individual another id or name. Two are never joined by it: that is `merge`."""
    from flukeprint.catalogue.deciding import Wish

    _save([Wish("rename", individual=old, new_id=to, new_name=name, note=note)], place, who)


@app.command()
def undo(
    decisions: Annotated[list[int], Argument(metavar="N...", help="Numbers of decisions, as `log` lists them.")],
    place: Place = "catalogue",
    who: Who = None,
    note: Note = None,
) -> None:
    """Take decisions back. An undo is a decision too, and can be undone."""
    from flukeprint.catalogue.deciding import Wish

    _save([Wish("undo", undoes=number, note=note) for number in dict.fromkeys(decisions)], place, who)


def name_of(who: str | None) -> str:
    """Return who decides: as it was said, else as the machine knows the user."""
    if who is not None:
        return who
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise FlukeprintError("nobody knows who you are. Say it: --who NAME, or set FLUKEPRINT_WHO.") from None


def _save_about(action: "Action", subjects: Sequence[str], who: str | None, place: str, wanted: dict[str, Any]) -> None:
    """Save a decision about each of some encounters or photos."""
    from flukeprint.catalogue.deciding import Wish

    if not subjects:
        raise FlukeprintError(f"{action} what? Name encounters (e12) or photos (p7), then the individual.")
    _save([Wish(action, **_subject(text), **wanted) for text in dict.fromkeys(subjects)], place, who)


def _subject(text: str) -> dict[str, Any]:
    found = re.fullmatch(r"([ep])(\d{1,9})", text)
    if found is None:
        raise FlukeprintError(f"{text!r} is no encounter or photo, expected one such as e12 or p7.")
    return {"encounter" if found[1] == "e" else "photo": int(found[2])}


def _save(wishes: "Sequence[Wish]", place: str, who: str | None) -> None:
    """Save decisions; say so once they are."""
    from flukeprint.catalogue.catalogues import open_catalogue
    from flukeprint.catalogue.deciding import decide, undone_by
    from flukeprint.catalogue.doubts import doubts_about

    opened = open_catalogue(place)
    numbers = decide(opened, wishes, name_of(who))
    echo(f"saved: decision {', '.join(map(str, numbers))}")
    for doubt in doubts_about(opened, numbers):
        echo(f"! {doubt}")
    echo(f"To undo: {undone_by(numbers, place)}")
