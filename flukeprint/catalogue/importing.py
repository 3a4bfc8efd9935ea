"""Carrying out an import: photos are read and embedded while the next are decoded, and saved in batches.

A batch is one transaction: photos, their encounters, what the source says of individuals as decisions, and vectors. So
an import that was killed is done up to a batch, and goes on there when it is run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update

from flukeprint.bundle.encoder import Encoded
from flukeprint.bundle.model import Model
from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.database import inserted
from flukeprint.catalogue.entities import (
    IMPORT_NOTE,
    DecisionRow,
    DecisionStateRow,
    EncounterRow,
    EncounterStateRow,
    IndividualStateRow,
    PhotoRow,
    PhotoStateRow,
    VectorRow,
)
from flukeprint.catalogue.import_plan import PlannedPhoto
from flukeprint.catalogue.individual_ids import new_individuals
from flukeprint.catalogue.kept_state import columns_of, read_standing
from flukeprint.catalogue.photo_store import keep_photo
from flukeprint.catalogue.present_state import Decision, Standing, standing, standing_of_photo
from flukeprint.catalogue.same_pictures import NamedOtherwise, named_otherwise
from flukeprint.catalogue.second_names import SecondName, keep_second_names
from flukeprint.data.inspection import PhotoRecord
from flukeprint.data.photos import UnusableError, reason
from flukeprint.quality.flags import flags_of
from flukeprint.retrieval.vectors import Vectors

# Photos that are saved at once: a second or two of work, so that waiting for the disk hardly counts.
_BATCH = 256


@dataclass
class Imported:
    """What an import did."""

    photos: int = 0
    encounters: int = 0
    moved: int = 0  # photos left where they were, that are now elsewhere
    individuals: list[str] = field(default_factory=list)  # ids of the new ones
    refused: list[tuple[PlannedPhoto, str]] = field(default_factory=list)  # photos that could not be used, and why
    flags: Counter[str] = field(default_factory=Counter)  # how many new photos break each rule of quality/rules.py
    named_otherwise: list[NamedOtherwise] = field(default_factory=list)  # new photos that may have a wrong id
    second_names: list[SecondName] = field(default_factory=list)  # files that are there under another id


@dataclass(frozen=True)
class _Ready:
    """A photo that was read and, unless it stays where it is, stored."""

    plan: PlannedPhoto
    record: PhotoRecord
    vector: bytes
    stored: str | None


@dataclass
class Import:
    """An import under way: of one plan, into one catalogue, by one model."""

    catalogue: Catalogue
    model: Model
    model_id: int
    who: str
    done: Imported = field(default_factory=Imported)
    added: list[int] = field(default_factory=list)  # numbers of the new photos

    def carry_out(self, plan: Iterable[PlannedPhoto]) -> Imported:
        """Add the photos of a plan that are new. One that cannot be used is said, and left out."""
        plan = list(plan)
        self._find_again(photo for photo in plan if photo.verdict == "known")
        planned = {photo.row.file: photo for photo in plan if photo.verdict == "new" and photo.row.file}
        waiting: list[_Ready] = []
        for encoded in self.model.encode_batches(list(planned)):
            waiting += self._stored(encoded, planned)
            if len(waiting) >= _BATCH:
                self._save(waiting)
                waiting = []
        self._save(waiting)
        with self.catalogue.database.writing() as connection:
            self.done.second_names, individuals = keep_second_names(connection, plan, self.who)
        self.done.individuals += individuals
        self.done.named_otherwise += named_otherwise(self.catalogue, self.added, self.model.limits)
        return self.done

    def _find_again(self, known: Iterable[PlannedPhoto]) -> None:
        """Note where photos that were left where they were are now, if they were moved."""
        files = {photo.own.sha256: photo.row.file for photo in known if photo.row.file}
        with self.catalogue.database.writing() as connection:
            left = connection.execute(select(PhotoRow.sha256, PhotoRow.path).where(PhotoRow.stored.is_(None)))
            moved = [sha256 for sha256, path in left if sha256 in files and not Path(path).is_file()]
            for sha256 in moved:
                path = str(files[sha256].absolute())
                connection.execute(update(PhotoRow).where(PhotoRow.sha256 == sha256).values(path=path))
        self.done.moved += len(moved)

    def _stored(self, encoded: Encoded, planned: dict[Path, PlannedPhoto]) -> list[_Ready]:
        """Put photos into the store, before the database says that they are there."""
        self.done.refused += [(planned[one.path], one.record.fault or "") for one in encoded.failed]
        ready, store = [], self.catalogue.store
        for photo, vector in zip(encoded.photos, encoded.vectors, strict=True):
            plan = planned[photo.path]
            try:
                if photo.record.sha256 != plan.own.sha256:
                    raise UnusableError("the file was changed while it was being imported")
                stored = None if store is None else keep_photo(store, photo.path, plan.own.sha256)
                ready.append(_Ready(plan, photo.record, vector_bytes(vector), stored))
            except (UnusableError, FileNotFoundError) as error:
                self.done.refused.append((plan, reason(error)))
        return ready

    def _save(self, ready: Sequence[_Ready]) -> None:
        """Save a batch, whole or not at all. What another import added meanwhile is left out."""
        if not ready:
            return
        with self.catalogue.database.writing() as connection:
            hashes = [one.plan.own.sha256 for one in ready]
            there = set(connection.execute(select(PhotoRow.sha256).where(PhotoRow.sha256.in_(hashes))).scalars())
            ready = [one for one in ready if one.plan.own.sha256 not in there]
            standings = self._encounters(connection, ready)
            self._photos(connection, ready, standings)

    def _encounters(self, connection: Connection, ready: Sequence[_Ready]) -> dict[str, tuple[int, Standing]]:
        """Return the encounters of photos, by what an import knows them by, and whom they show; make those missing."""
        first: dict[str, PlannedPhoto] = {}
        for one in ready:
            first.setdefault(one.plan.encounter, one.plan)
        found = connection.execute(select(EncounterRow.key, EncounterRow.id).where(EncounterRow.key.in_(list(first))))
        standings = {key: (number, read_standing(connection, number)) for key, number in found}
        new = [plan for key, plan in first.items() if key not in standings]
        numbers = inserted(connection, EncounterRow, EncounterRow.id, map(_encounter_columns, new))
        decided = self._identities(connection, dict(zip(numbers, new, strict=True)))
        states = ({"encounter_id": n, "version": last, **columns_of(now)} for n, (last, now) in decided.items())
        inserted(connection, EncounterStateRow, None, states)
        self.done.encounters += len(new)
        return standings | {plan.encounter: (n, decided[n][1]) for n, plan in zip(numbers, new, strict=True)}

    def _identities(self, connection: Connection, new: dict[int, PlannedPhoto]) -> dict[int, tuple[int, Standing]]:
        """Decide whom new encounters show, as the source says; return the last decision and the standing of each."""
        keys = {row.id: row.merged_into or row.key for row in connection.execute(select(IndividualStateRow))}
        named = [(number, plan, plan.identity) for number, plan in new.items() if plan.identity is not None]
        first = {name: number for number, _, name in reversed(named) if name not in keys}
        made = {name: plan.display_name for number, plan, name in named if first.get(name) == number}
        keys |= new_individuals(connection, made)
        self.done.individuals += made
        decided = [(n, "new" if first.get(name) == n else "confirm", keys[name]) for n, _, name in named]
        now = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "who": self.who, "note": IMPORT_NOTE, "seen": 0}
        rows = ({"encounter_id": n, "action": action, "individual": key, **now} for n, action, key in decided)
        numbers = inserted(connection, DecisionRow, DecisionRow.id, rows)
        inserted(connection, DecisionStateRow, None, ({"decision_id": number, "holds": True} for number in numbers))
        standings = {number: (0, Standing()) for number in new}
        for decision, (number, _, key) in zip(numbers, decided, strict=True):
            standings[number] = decision, standing([Decision(decision, "confirm", number, individual=key)])
        return standings

    def _photos(
        self, connection: Connection, ready: Sequence[_Ready], standings: dict[str, tuple[int, Standing]]
    ) -> None:
        flags = [[flag.rule for flag in flags_of(one.record, self.model.limits)] for one in ready]
        self.done.flags.update(rule for rules in flags for rule in rules)
        rows = (
            _photo_columns(one) | {"encounter_id": standings[one.plan.encounter][0], "flags": " ".join(rules)}
            for one, rules in zip(ready, flags, strict=True)
        )
        numbers = inserted(connection, PhotoRow, PhotoRow.id, rows)
        together = list(zip(numbers, ready, strict=True))
        states = (
            {"photo_id": n, **columns_of(standing_of_photo((), standings[one.plan.encounter][1]))}
            for n, one in together
        )
        inserted(connection, PhotoStateRow, None, states)
        vectors = ({"model_id": self.model_id, "photo_id": n, "vector": one.vector} for n, one in together)
        inserted(connection, VectorRow, None, vectors)
        self.done.photos += len(numbers)
        self.added += numbers


def vector_bytes(vector: Vectors) -> bytes:
    """Return a vector as the database holds it."""
    return vector.astype("<f4").tobytes()


def _encounter_columns(plan: PlannedPhoto) -> dict[str, Any]:
    day = None if plan.taken_at is None else plan.taken_at[:10]
    row = plan.row
    return {"key": plan.encounter, "name": plan.encounter_name, "date": day, "place": row.place, "notes": row.notes}


def _photo_columns(one: _Ready) -> dict[str, Any]:
    row, own, record = one.plan.row, one.plan.own, one.record
    position = (own.latitude, own.longitude) if row.latitude is None else (row.latitude, row.longitude)
    return {
        "sha256": record.sha256,
        "name": record.name,
        "path": str((row.file or Path()).absolute()),
        "stored": one.stored,
        "size": record.bytes,
        "width": record.width,
        "height": record.height,
        "taken_at": one.plan.taken_at,
        "latitude": position[0],
        "longitude": position[1],
        "photographer": row.photographer,
        "viewpoint": row.viewpoint,
        "quality": row.quality,
        "phash": f"{record.phash:016x}",
        "thumbnail": record.thumbnail,
    }
