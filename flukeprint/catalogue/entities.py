"""The tables of the catalogue.

`settings`, `models`, `photos`, `encounters`, `individuals`, `second_names` hold what is there. `decisions` is the log
of what people decided: rows are added and never changed, and the database itself refuses anything else. The tables
that end in `_states` hold the present state, which follows from the log (present_state.py) and is kept beside it
(kept_state.py), so that it can be asked quickly. `vectors`, `answers` and `keypoint_matches` are computed, and can be
computed again.

Dates and times are texts in ISO 8601, as exact as they are known: 2024, 2024-07, 2024-07-01, 2024-07-01T09:30:00.
"""

from typing import Literal, get_args

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Action = Literal["new", "confirm", "reject", "unsure", "split", "merge", "rename", "undo"]
ACTIONS: tuple[Action, ...] = get_args(Action)
# Those that say whom a photo or an encounter shows.
ABOUT_SIGHTINGS: frozenset[Action] = frozenset({"new", "confirm", "reject", "unsure", "split"})

# The note of decisions by which an import says whom new encounters show; people cannot write it.
IMPORT_NOTE = "import"

Status = Literal["open", "confirmed", "unsure"]

# What kind of decision an answer lets expect (decision_queue.py), in the order in which people decide: what is quickly
# confirmed, likely new whales, what is doubtful.
Worth = Literal["sure", "new", "doubtful"]
WORTHS: tuple[Worth, ...] = get_args(Worth)

# What a reviewer may do: each role may also do what those before it may.
Role = Literal["look", "decide", "administer"]
ROLES: tuple[Role, ...] = get_args(Role)


class Base(DeclarativeBase):
    """What all tables belong to."""


class SettingRow(Base):
    """What the catalogue itself needs to know: its bundle, its model, where its photos are."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class ModelRow(Base):
    """A model that vectors were made with."""

    __tablename__ = "models"
    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64), unique=True)  # SHA-256 of `provenance`, in hex
    provenance: Mapped[str] = mapped_column(Text)  # retrieval/provenance.py, as JSON


class EncounterRow(Base):
    """Photos of one whale, taken on one occasion."""

    __tablename__ = "encounters"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(Text, unique=True)  # what an import knows it by
    name: Mapped[str] = mapped_column(Text)  # as people call it
    date: Mapped[str | None] = mapped_column(String(32))
    place: Mapped[str | None] = mapped_column(Text)
    notes: Mapped[str | None] = mapped_column(Text)


class PhotoRow(Base):
    """A photo, known by the SHA-256 of its file."""

    __tablename__ = "photos"
    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(Text, index=True)  # of the file that was imported
    path: Mapped[str] = mapped_column(Text)  # of the file that was imported, absolute
    stored: Mapped[str | None] = mapped_column(Text)  # where it is in the photo store; null: it was left at `path`
    size: Mapped[int] = mapped_column(BigInteger)  # bytes of the file
    width: Mapped[int]  # px, as stored (before EXIF orientation)
    height: Mapped[int]
    taken_at: Mapped[str | None] = mapped_column(String(32))
    latitude: Mapped[float | None] = mapped_column(Float(53))  # degrees, WGS 84
    longitude: Mapped[float | None] = mapped_column(Float(53))
    photographer: Mapped[str | None] = mapped_column(Text)
    viewpoint: Mapped[str | None] = mapped_column(Text)  # as the source has it: left, right, ventral, ...
    quality: Mapped[str | None] = mapped_column(Text)  # as the source has it
    flags: Mapped[str] = mapped_column(Text)  # rules of quality/rules.py that the photo breaks, by blanks; may be empty
    phash: Mapped[str] = mapped_column(String(16))  # 64 bits in hex
    thumbnail: Mapped[bytes] = mapped_column(LargeBinary)  # 32 x 32 grey values, as in data/inspection.py
    encounter_id: Mapped[int] = mapped_column(ForeignKey(EncounterRow.id), index=True)


class VectorRow(Base):
    """A photo's vector by one model: float32, little-endian, of length 1."""

    __tablename__ = "vectors"
    model_id: Mapped[int] = mapped_column(ForeignKey(ModelRow.id), primary_key=True)
    photo_id: Mapped[int] = mapped_column(ForeignKey(PhotoRow.id), primary_key=True, autoincrement=False)
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class IndividualRow(Base):
    """A whale. Its present id and name may be others than the first ones: they follow from the decisions."""

    __tablename__ = "individuals"
    key: Mapped[int] = mapped_column(primary_key=True)
    first_id: Mapped[str] = mapped_column(String(64))
    first_name: Mapped[str | None] = mapped_column(Text)
    notes: Mapped[str | None] = mapped_column(Text)


class DecisionRow(Base):
    """What somebody decided. See present_state.py for what each action means."""

    __tablename__ = "decisions"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str] = mapped_column(String(32))  # UTC
    who: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(16))
    encounter_id: Mapped[int | None] = mapped_column(ForeignKey(EncounterRow.id), index=True)
    photo_id: Mapped[int | None] = mapped_column(ForeignKey(PhotoRow.id), index=True)
    individual: Mapped[int | None] = mapped_column(ForeignKey(IndividualRow.key))
    other: Mapped[int | None] = mapped_column(ForeignKey(IndividualRow.key))  # split: from whom; merge: into whom
    undoes: Mapped[int | None] = mapped_column(ForeignKey("decisions.id"), index=True)
    seen: Mapped[int | None]  # the encounter's last decision that the person had seen; 0: none
    new_id: Mapped[str | None] = mapped_column(String(64))  # rename
    new_name: Mapped[str | None] = mapped_column(Text)  # rename
    model: Mapped[str | None] = mapped_column(String(64))  # fingerprint of the model that named candidates
    shown: Mapped[str | None] = mapped_column(Text)  # the candidates that were shown, as JSON (answers.content)
    note: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("decisions_of_individual", "individual"),
        CheckConstraint(f"action IN ({', '.join(map(repr, ACTIONS))})", name="known_action"),
        CheckConstraint("encounter_id IS NULL OR photo_id IS NULL", name="one_subject"),
        CheckConstraint("(action = 'undo') = (undoes IS NOT NULL)", name="undo_names_a_decision"),
        {"sqlite_autoincrement": True},
    )


class DecisionStateRow(Base):
    """Whether a decision holds: it was not undone, or its undo was."""

    __tablename__ = "decision_states"
    decision_id: Mapped[int] = mapped_column(ForeignKey(DecisionRow.id), primary_key=True, autoincrement=False)
    holds: Mapped[bool]


class EncounterStateRow(Base):
    """Whom an encounter shows, by the decisions about it as a whole."""

    __tablename__ = "encounter_states"
    encounter_id: Mapped[int] = mapped_column(ForeignKey(EncounterRow.id), primary_key=True, autoincrement=False)
    status: Mapped[str] = mapped_column(String(16), index=True)
    individual: Mapped[int | None] = mapped_column(ForeignKey(IndividualRow.key), index=True)  # as decided, not merged
    rejected: Mapped[str] = mapped_column(Text)  # JSON list of individuals' keys
    version: Mapped[int]  # the last decision about it or one of its photos; 0: none


class PhotoStateRow(Base):
    """Whom a photo shows: by the decisions about itself, else by its encounter's."""

    __tablename__ = "photo_states"
    photo_id: Mapped[int] = mapped_column(ForeignKey(PhotoRow.id), primary_key=True, autoincrement=False)
    status: Mapped[str] = mapped_column(String(16), index=True)
    individual: Mapped[int | None] = mapped_column(ForeignKey(IndividualRow.key), index=True)  # as decided, not merged
    rejected: Mapped[str] = mapped_column(Text)  # JSON list of individuals' keys


class IndividualStateRow(Base):
    """What an individual is called now, and who it is: itself, or whom it was merged into."""

    __tablename__ = "individual_states"
    key: Mapped[int] = mapped_column(ForeignKey(IndividualRow.key), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str | None] = mapped_column(Text)
    merged_into: Mapped[int | None] = mapped_column(ForeignKey(IndividualRow.key), index=True)  # one not merged


class SecondNameRow(Base):
    """A source has a photo's file under this individual as well: a question, until people answer it."""

    __tablename__ = "second_names"
    photo_id: Mapped[int] = mapped_column(ForeignKey(PhotoRow.id), primary_key=True, autoincrement=False)
    individual: Mapped[int] = mapped_column(ForeignKey(IndividualRow.key), primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(32))  # UTC
    who: Mapped[str] = mapped_column(Text)  # imported it


class AnswerRow(Base):
    """The candidates of an encounter that were last shown to people."""

    __tablename__ = "answers"
    encounter_id: Mapped[int] = mapped_column(ForeignKey(EncounterRow.id), primary_key=True, autoincrement=False)
    model_id: Mapped[int] = mapped_column(ForeignKey(ModelRow.id))
    content: Mapped[str] = mapped_column(Text)  # JSON: asked.py
    worth: Mapped[int]  # place in WORTHS
    certainty: Mapped[float] = mapped_column(Float(53))  # what those of one worth are sorted by, the highest first

    __table_args__ = (Index("answers_in_order", "worth", "certainty"),)


class KeypointMatchRow(Base):
    """What matched in a photo in question and one of a candidate, when its answer was made by matched keypoints."""

    __tablename__ = "keypoint_matches"
    photo_id: Mapped[int] = mapped_column(ForeignKey(PhotoRow.id), primary_key=True, autoincrement=False)
    other_id: Mapped[int] = mapped_column(ForeignKey(PhotoRow.id), primary_key=True, autoincrement=False)
    number: Mapped[int]  # of matched keypoints
    lines: Mapped[bytes] = mapped_column(LargeBinary)  # keypoint_matches.py


class ReviewerRow(Base):
    """Somebody who may use the review page where it asks for a login. Their name stands in the log."""

    __tablename__ = "reviewers"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))


class AccessRow(Base):
    """What lets a reviewer in until it ends: a token, or the session of a browser. Only a hash of it is kept."""

    __tablename__ = "accesses"
    hash: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256 of the secret, in hex
    kind: Mapped[str] = mapped_column(String(16))  # token or session
    reviewer: Mapped[str] = mapped_column(ForeignKey(ReviewerRow.name), index=True)
    ends_at: Mapped[str] = mapped_column(String(32))  # UTC
