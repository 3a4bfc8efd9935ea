"""Ids as people type them: which of them look alike, and which say that nobody knows the whale."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache

from flukeprint.data.labels import NEW_WHALE

# Words for a whale that nobody knows, as `validate.unknown.words` in params.yaml has them.
UNKNOWN_WORDS = (
    *("unknown", "unidentified", "undetermined", "not identified", "unk", "unid", "no id", "no match", "tbd"),
    *("none", "null", "nil", "nan", "n/a"),
)


@lru_cache(1 << 16)
def spelling_key(label: str) -> str:
    """Return what the spellings of one id have in common.

    Case, the encoding of accents, blanks and punctuation do not count, but between two digits: HW-1-23 is not HW-12-3.
    Nor do leading zeros of a number, and a `.0` that a spreadsheet put behind it: 001 and 1.0 are 1.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold()).strip()
    text = re.sub(r"\A(\d+)\.0+\Z", r"\1", text)
    # P: punctuation, Z: blanks, C: invisible characters.
    text = "".join("-" if unicodedata.category(character)[0] in "PZC" else character for character in text)
    text = re.sub("(?<![0-9])-|-(?![0-9])", "", re.sub("-+", "-", text))
    # Only where all that follows is numbers: digits of a hexadecimal id are no number.
    if re.fullmatch(r"\D*\d+(?:-\d+)*", text):
        text = re.sub(r"(?<!\d)0+(?=\d)", "", text)
    return text or label


def look_alikes(ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the ids by their `spelling_key`, the most frequent spelling of each first; `new_whale` before all others.

    A key with several ids is a group of look-alikes.
    """
    by_frequency = sorted(Counter(ids).items(), key=lambda item: (item[0] != NEW_WHALE, -item[1], item[0]))
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label, _ in by_frequency:
        groups[spelling_key(label)].append(label)
    return dict(groups)


def usual_spellings(ids: Iterable[str]) -> dict[str, str]:
    """Return the spelling to be expected of each id: the most frequent one of its look-alikes, or new_whale."""
    groups = look_alikes(ids)
    first = {spelling_key(NEW_WHALE): NEW_WHALE}
    return {label: first.get(key, group[0]) for key, group in groups.items() for label in group}


def looks_like(label: str, known: Iterable[str]) -> list[str]:
    """Return other ids that look like `label`, sorted: of those that are known, and new_whale."""
    key = spelling_key(label)
    return sorted(other for other in {*known, NEW_WHALE} if other != label and spelling_key(other) == key)


def unknown_among(ids: Iterable[str], words: Iterable[str] = UNKNOWN_WORDS) -> set[str]:
    """Return the ids that say that nobody knows the whale, or nothing at all; new_whale itself is the right word.

    `words` are compared by their `spelling_key`. An id without any letter or digit says nothing.
    """
    keys = {spelling_key(word) for word in (*words, NEW_WHALE)}
    return {
        label
        for label in {*ids} - {NEW_WHALE}
        if spelling_key(label) in keys or not any(character.isalnum() for character in label)
    }
