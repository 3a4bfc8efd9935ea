"""Reviewers, and what lets them in: tokens that an administrator hands out, and sessions that browsers get for them.

Of a token or a session the database keeps only the SHA-256. Both are random numbers of 256 bits: nobody guesses one,
and a slow hash would protect nothing more.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.entities import ROLES, AccessRow, ReviewerRow, Role
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable

SESSION = timedelta(hours=12)
_LONGEST_NAME = 64
_MOST_DAYS = 3650


@dataclass(frozen=True)
class Reviewer:
    """Somebody who may come in, and until when by the token that lasts longest."""

    name: str
    role: Role
    until: str | None  # UTC; None: there is no token


def new_secret() -> str:
    """Return a random text of 256 bits, fit for URLs and cookies."""
    return secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    """Return what the database keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def let_in(catalogue: Catalogue, name: str, role: str, days: int) -> str:
    """Make somebody a reviewer, or give a reviewer this role from now on; return a new token that ends after `days`."""
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise FlukeprintError(
            f"{printable(name)!r} cannot be a reviewer's name: expected 1 to {_LONGEST_NAME} printable characters."
        )
    if role not in ROLES:
        raise FlukeprintError(f"the role is {printable(role)!r}, expected one of {', '.join(ROLES)}.")
    if not 1 <= days <= _MOST_DAYS:
        raise FlukeprintError(f"a token of {days} days is none, expected 1 to {_MOST_DAYS}.")
    token = new_secret()
    with catalogue.database.writing() as connection:
        if not connection.execute(update(ReviewerRow).where(ReviewerRow.name == name).values(role=role)).rowcount:
            connection.execute(insert(ReviewerRow).values(name=name, role=role))
        _keep(connection, token, "token", name, timedelta(days=days))
    return token


def shut_out(catalogue: Catalogue, name: str) -> None:
    """End all tokens and sessions of a reviewer at once. Their decisions stay, under their name."""
    with catalogue.database.writing() as connection:
        if connection.execute(select(ReviewerRow.name).where(ReviewerRow.name == name)).first() is None:
            raise FlukeprintError(f"there is no reviewer {printable(name)}.")
        connection.execute(delete(AccessRow).where(AccessRow.reviewer == name))


def reviewers_of(catalogue: Catalogue) -> list[Reviewer]:
    """Return the reviewers, sorted by name."""
    until = func.max(AccessRow.ends_at)
    valid = (AccessRow.reviewer == ReviewerRow.name) & (AccessRow.kind == "token") & (AccessRow.ends_at > _now())
    query = (
        select(ReviewerRow.name, ReviewerRow.role, until)
        .outerjoin(AccessRow, valid)
        .group_by(ReviewerRow.name, ReviewerRow.role)
        .order_by(ReviewerRow.name)
    )
    with catalogue.database.reading() as connection:
        return [Reviewer(row.name, _role(row.role), row[2]) for row in connection.execute(query)]


def open_session(catalogue: Catalogue, token: str) -> str | None:
    """Return the secret of a new session for whom a token lets in, or None. It ends no later than the token."""
    with catalogue.database.writing() as connection:
        connection.execute(delete(AccessRow).where(AccessRow.ends_at <= _now()))
        found = connection.execute(_valid("token", token)).one_or_none()
        if found is None:
            return None
        secret = new_secret()
        left = datetime.fromisoformat(found.ends_at) - datetime.now(UTC)
        _keep(connection, secret, "session", found.name, min(SESSION, left))
    return secret


def reviewer_of(connection: Connection, session: str) -> Reviewer | None:
    """Return whose session it is, if it has not ended."""
    found = connection.execute(_valid("session", session)).one_or_none()
    return None if found is None else Reviewer(found.name, _role(found.role), found.ends_at)


def close_session(catalogue: Catalogue, session: str) -> None:
    """End a session."""
    with catalogue.database.writing() as connection:
        connection.execute(delete(AccessRow).where(AccessRow.hash == hash_of(session)))


def _role(text: str) -> Role:
    """Return a role; one that this program does not know may only look."""
    return next((role for role in ROLES if role == text), "look")


def _valid(kind: str, secret: str) -> Select[str, str, str]:
    return (
        select(ReviewerRow.name, ReviewerRow.role, AccessRow.ends_at)
        .join(AccessRow, AccessRow.reviewer == ReviewerRow.name)
        .where(AccessRow.hash == hash_of(secret), AccessRow.kind == kind, AccessRow.ends_at > _now())
    )


def _keep(connection: Connection, secret: str, kind: str, name: str, lasts: timedelta) -> None:
    ends = (datetime.now(UTC) + lasts).isoformat(timespec="seconds")
    connection.execute(insert(AccessRow).values(hash=hash_of(secret), kind=kind, reviewer=name, ends_at=ends))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
