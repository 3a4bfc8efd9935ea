"""What is to be decided, in words that the command line and the review page share."""

from __future__ import annotations

from flukeprint.catalogue.entities import Worth

WORTH_TITLES: dict[Worth, str] = {
    "sure": "Probably known: quickly confirmed",
    "new": "Probably new",
    "doubtful": "Doubtful: look at these at leisure",
}
