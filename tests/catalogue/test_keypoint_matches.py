"""Matched keypoints beside an answer: small, those of the last answer, and bounded."""

import pytest
from catalogue_rows import add_encounter
from sqlalchemy import select

from flukeprint.catalogue.entities import KeypointMatchRow
from flukeprint.catalogue.keypoint_matches import MOST_LINES, KeypointMatch, keep_matches, read_matches

LINES = ((0.0, 1.0, 0.25, 0.5), (0.1234, 0.9876, 0.5, 0.3333))


@pytest.fixture
def filled(catalogue):
    """Two encounters in question, and one of somebody known."""
    with catalogue.database.writing() as connection:
        for number, photos in ((1, 2), (2, 1), (3, 2)):
            add_encounter(connection, number, photos)
    return catalogue.database


def kept(database, photos=(100, 101, 200), others=(300, 301), most=9) -> list[KeypointMatch]:
    with database.reading() as connection:
        return read_matches(connection, photos, others, most)


def test_those_that_match_best_come_first_and_those_of_photos_that_are_not_asked_for_not_at_all(filled):
    matches = [KeypointMatch(100, 300, 2, LINES), KeypointMatch(101, 301, 7, LINES[:1]), KeypointMatch(101, 300, 0, ())]
    with filled.writing() as connection:
        keep_matches(connection, [1], matches)
    assert kept(filled) == [matches[1], matches[0], matches[2]]
    assert kept(filled, most=1) == [matches[1]]
    assert kept(filled, photos=[100], others=[300]) == [matches[0]]
    assert kept(filled, others=[]) == []


def test_another_answer_replaces_those_of_its_encounters_alone(filled):
    own, other = KeypointMatch(100, 300, 1, LINES[:1]), KeypointMatch(200, 300, 1, LINES[:1])
    with filled.writing() as connection:
        keep_matches(connection, [1, 2], [own, other])
        keep_matches(connection, [1], [])
    assert kept(filled) == [other]


def test_of_many_lines_some_are_kept_from_the_first_to_the_last(filled):
    number = 5 * MOST_LINES
    lines = tuple((place / number, 0.5, 0.5, 1.0) for place in range(number))
    with filled.writing() as connection:
        keep_matches(connection, [1], [KeypointMatch(100, 300, number, lines)])
        assert len(connection.execute(select(KeypointMatchRow.lines)).scalar_one()) == 8 * MOST_LINES
    [found] = kept(filled)
    assert (found.number, len(set(found.lines))) == (number, MOST_LINES)
    assert [found.lines[0], found.lines[-1]] == [pytest.approx(lines[0], abs=1e-4), pytest.approx(lines[-1], abs=1e-4)]
