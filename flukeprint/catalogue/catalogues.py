"""A catalogue: its database, and where its photos are.

A folder holds `catalogue.db` and the photo store; a team's catalogue is named by the URL of its PostgreSQL database,
whose settings say where the photo store is.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.engine import make_url

from flukeprint.catalogue.database import Database, open_database
from flukeprint.catalogue.entities import SettingRow
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable

DATABASE = "catalogue.db"
# Names of settings.
BUNDLE, MODEL, STORE = "bundle", "model", "store"
_PHOTOS = "photos"
# A bundle that is kept in the catalogue's own folder: of a network that came from no other bundle.
OWN_MODEL = "model"


@dataclass(frozen=True)
class Catalogue:
    """An open catalogue."""

    place: str  # the folder or the URL, as people name it
    database: Database
    store: Path | None  # the photo store's folder; None: photos are left where they are

    @property
    def own_model(self) -> Path | None:
        """Return where a bundle of its own is kept; None: there is no folder for one, photos stay where they are."""
        home = self.store if is_url(self.place) else Path(self.place)
        return None if home is None else home / OWN_MODEL

    def file_of(self, stored: str | None, path: str) -> Path:
        """Return where a photo is: in the photo store, or where it was imported from (PhotoRow.stored and .path)."""
        return Path(path) if stored is None or self.store is None else self.store / stored


def is_url(place: str) -> bool:
    """Tell whether a place is the URL of a database, and no folder."""
    return "://" in place


def printed(place: str) -> str:
    """Return a place as it may be printed: without the password of a URL."""
    return printable(make_url(place).render_as_string(hide_password=True) if is_url(place) else place)


def command(place: str, *words: str) -> str:
    """Return a command about a catalogue, `flukeprint catalogue WORDS`, as it may be printed to be copied."""
    return shlex.join(["flukeprint", "catalogue", *words, "--catalogue", printed(place)])


def create_catalogue(place: str, store: Path | None = None, *, in_place: bool = False) -> Catalogue:
    """Make a catalogue, without any photo, in a new or empty folder or database.

    `store` is the folder of the photo store where `place` is a URL; `in_place` leaves photos where they are.
    """
    refuse_full(place)
    if is_url(place) and store is None and not in_place:
        raise FlukeprintError("a catalogue in a database needs a folder for its photos: name one (--store DIR).")
    if not is_url(place):
        Path(place).mkdir(parents=True, exist_ok=True)
    database = _opened(place)
    with database.writing() as connection:
        if setting(connection, STORE) is not None and setting(connection, MODEL) is not None:
            raise FlukeprintError(f"{printed(place)} is a catalogue already. Add to it (`import`).")
        # A relative place: the folder may be moved, with all that is in it.
        set_setting(connection, STORE, "" if in_place else str(store.absolute()) if store else _PHOTOS)
    return open_catalogue(place)


def refuse_full(place: str) -> None:
    """Refuse a folder that holds anything but an unfinished catalogue; of a database nothing is known yet."""
    if not is_url(place) and Path(place).exists() and not _can_be_filled(Path(place)):
        raise FlukeprintError(f"{printed(place)} is not empty. Name a new folder, or add to it (`import`).")


def _can_be_filled(folder: Path) -> bool:
    """Tell whether a folder is empty, but for a database and a model that may be unfinished."""
    unfinished = (DATABASE, OWN_MODEL, f".{OWN_MODEL}.")
    return folder.is_dir() and all(entry.name.startswith(unfinished) for entry in folder.iterdir())


def open_catalogue(place: str) -> Catalogue:
    """Open a catalogue; refuse what is none."""
    if not is_url(place) and not (Path(place) / DATABASE).is_file():
        raise FlukeprintError(
            f"there is no catalogue in {printed(place)} ({DATABASE} is missing). Name another (--catalogue), or make "
            f"one: `flukeprint catalogue create {shlex.quote(printed(place))}`."
        )
    database = _opened(place)
    with database.reading() as connection:
        store = setting(connection, STORE)
    if store is None:
        finish = f"flukeprint catalogue create {shlex.quote(printed(place))}"
        raise FlukeprintError(f"{printed(place)} is no finished catalogue. Finish it: `{finish}`.")
    folder = Path(store) if is_url(place) else Path(place) / store
    return Catalogue(place, database, folder if store else None)


def _opened(place: str) -> Database:
    return open_database(place if is_url(place) else Path(place) / DATABASE)


def setting(connection: Connection, name: str) -> str | None:
    """Return a setting's value, or None."""
    return connection.execute(select(SettingRow.value).where(SettingRow.name == name)).scalar()


def set_setting(connection: Connection, name: str, value: str) -> None:
    """Set a setting."""
    changed = connection.execute(update(SettingRow).where(SettingRow.name == name).values(value=value))
    if not changed.rowcount:
        connection.execute(insert(SettingRow).values(name=name, value=value))
