"""How the review page is served: what the command was told, as its worker processes read it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

# The environment variable by which worker processes get to know the settings.
VARIABLE = "FLUKEPRINT_REVIEW"
LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class ReviewSettings:
    """What the pages depend on."""

    place: str  # of the catalogue
    who: str  # whose decisions they are where nobody logs in
    login: bool = False
    hosts: tuple[str, ...] = LOOPBACK  # names by which the server may be asked for
    two_reviewers: bool = False  # a decision counts as settled when two people agree

    def dumped(self) -> str:
        """Return the settings as text."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> ReviewSettings:
        """Read what `dumped` returned."""
        content = json.loads(text)
        return cls(**content | {"hosts": tuple(content["hosts"])})
