"""Vectors of a catalogue's photos, cached for each model, and the model that a catalogue answers with."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert, select

from flukeprint.bundle.model import Model
from flukeprint.bundle.opening import open_bundle
from flukeprint.catalogue.catalogues import BUNDLE, MODEL, OWN_MODEL, Catalogue, command, printed, set_setting, setting
from flukeprint.catalogue.database import inserted
from flukeprint.catalogue.entities import ModelRow, PhotoRow, VectorRow
from flukeprint.catalogue.importing import vector_bytes
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.replacement import replacing_folder
from flukeprint.core.safe_text import printable
from flukeprint.retrieval.vectors import Vectors

# Photos whose vectors are saved at once.
_BATCH = 256


def fingerprint_of(model: Model) -> str:
    """Return what tells a model from others: the SHA-256 of its provenance, in hex."""
    return hashlib.sha256(model.provenance.model_dump_json().encode()).hexdigest()


def use_model(catalogue: Catalogue, bundle: Path) -> None:
    """Let a catalogue answer with the model of a bundle from now on."""
    model = open_bundle(bundle)
    known_model(catalogue, model)
    # A relative place of its own: the catalogue's folder may be moved, with all that is in it.
    kept = OWN_MODEL if bundle == catalogue.own_model else str(bundle.absolute())
    with catalogue.database.writing() as connection:
        set_setting(connection, BUNDLE, kept)
        set_setting(connection, MODEL, fingerprint_of(model))


def use_plain_model(catalogue: Catalogue, bundle: Path) -> None:
    """Keep a bundle in the catalogue's own folder, and let it answer with its model from now on."""
    own = catalogue.own_model
    if own is None:
        raise FlukeprintError(
            f"{printed(catalogue.place)} has no folder for a network of its own. Name one for its photos (--store DIR)."
        )
    with replacing_folder(own) as temporary:
        shutil.copytree(bundle, temporary, dirs_exist_ok=True)
    use_model(catalogue, own)


def known_model(catalogue: Catalogue, model: Model) -> int:
    """Return a model's number in the catalogue, which gets to know it."""
    fingerprint = fingerprint_of(model)
    with catalogue.database.writing() as connection:
        number = connection.execute(select(ModelRow.id).where(ModelRow.fingerprint == fingerprint)).scalar()
        if number is None:
            row = {"fingerprint": fingerprint, "provenance": model.provenance.model_dump_json()}
            [number] = connection.execute(insert(ModelRow).values(**row)).inserted_primary_key or (0,)
    return int(number)


def open_model_of(catalogue: Catalogue) -> tuple[Model, int]:
    """Open the model that a catalogue answers with; return its number as well."""
    place, embed = printed(catalogue.place), partial(command, catalogue.place, "embed", "--bundle")
    with catalogue.database.reading() as connection:
        kept, fingerprint = setting(connection, BUNDLE), setting(connection, MODEL)
    if kept is None:
        raise FlukeprintError(f"{place} has no model. Name one: `{embed('DIR')}`.")
    bundle = str(catalogue.own_model) if kept == OWN_MODEL else kept
    if not Path(bundle).is_dir():
        raise FlukeprintError(
            f"the bundle that {place} answers with is no longer in {printable(bundle)}. Say where it is: "
            f"`{embed('DIR')}`."
        )
    model = open_bundle(Path(bundle))
    if fingerprint_of(model) != fingerprint:
        raise FlukeprintError(
            f"the bundle in {printable(bundle)} is another one than {place} answers with. To use the "
            f"new one: `{printable(embed(bundle))}`."
        )
    return model, known_model(catalogue, model)


def embed_missing(catalogue: Catalogue, model: Model, model_id: int) -> tuple[int, list[tuple[int, str]]]:
    """Compute the vectors that a model lacks, in batches that are kept when it is interrupted.

    Returns:
        how many were computed, and the photos (number, reason) whose files cannot be read.
    """
    with catalogue.database.reading() as connection:
        own = select(VectorRow.photo_id).where(VectorRow.model_id == model_id)
        rows = connection.execute(
            select(PhotoRow.id, PhotoRow.stored, PhotoRow.path).where(PhotoRow.id.not_in(own)).order_by(PhotoRow.id)
        ).all()
    photo_of = {catalogue.file_of(row.stored, row.path): row.id for row in rows}
    failed: list[tuple[int, str]] = []
    vectors = _vectors(model, photo_of, failed)
    number = 0
    while batch := list(islice(vectors, _BATCH)):
        with catalogue.database.writing() as connection:
            inserted(connection, VectorRow, None, _still_missing(connection, model_id, batch))
        number += len(batch)
    return number, failed


def _vectors(model: Model, photo_of: dict[Path, int], failed: list[tuple[int, str]]) -> Iterator[tuple[int, bytes]]:
    for encoded in model.encode_batches(list(photo_of)):
        failed += [(photo_of[one.path], one.record.fault or "") for one in encoded.failed]
        for photo, vector in zip(encoded.photos, encoded.vectors, strict=True):
            yield photo_of[photo.path], vector_bytes(vector)


def _still_missing(connection: Connection, model_id: int, batch: Sequence[tuple[int, bytes]]) -> list[dict[str, Any]]:
    """Leave out what another program computed meanwhile."""
    photos = [photo for photo, _ in batch]
    there = set(
        connection.execute(
            select(VectorRow.photo_id).where(VectorRow.model_id == model_id, VectorRow.photo_id.in_(photos))
        ).scalars()
    )
    return [{"model_id": model_id, "photo_id": n, "vector": vector} for n, vector in batch if n not in there]


def read_vectors(connection: Connection, model_id: int) -> tuple[dict[int, int], Vectors]:
    """Return the row of each photo that has a vector, and the vectors, N x D."""
    rows = connection.execute(
        select(VectorRow.photo_id, VectorRow.vector).where(VectorRow.model_id == model_id).order_by(VectorRow.photo_id)
    ).all()
    joined = np.frombuffer(b"".join(row.vector for row in rows), "<f4").astype(np.float32)
    return {row.photo_id: place for place, row in enumerate(rows)}, joined.reshape(len(rows), -1 if rows else 0)
