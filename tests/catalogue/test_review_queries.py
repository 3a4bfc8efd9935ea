"""The review page's queries, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import re

import pytest
from catalogue_season import fill
from review_browser import Browser
from sqlalchemy import insert

from flukeprint.catalogue.database import inserted
from flukeprint.catalogue.entities import IMPORT_NOTE, AnswerRow, DecisionRow, DecisionStateRow, ModelRow
from flukeprint.catalogue.sightings import decisions_of, holdings_of
from flukeprint.review.reviewers import let_in

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'flukeprint[review]'")
pytest.importorskip("httpx", reason="httpx is not installed: pip install 'flukeprint[dev]'")


@pytest.fixture
def asked(catalogue, tmp_path):
    """A catalogue in which encounter 6 was asked."""
    fill(catalogue, tmp_path / "season")
    candidate = {"id": "w_2", "probability": 0.7, "beyond_calibration": None, "similarity": 0.9}
    content = {"encounters": [6], "candidates": [candidate], "new_probability": 0.2, "near_duplicates": []}
    with catalogue.database.writing() as connection:
        connection.execute(insert(ModelRow).values(id=1, fingerprint="0", provenance="{}"))
        values = {"model_id": 1, "content": json.dumps(content), "worth": 2, "certainty": 0.7}
        connection.execute(insert(AnswerRow).values(encounter_id=6, **values))
    return catalogue


def logged_in(catalogue) -> Browser:
    browser = Browser(catalogue, "", login=True, two_reviewers=True)
    browser.get("/login")
    browser.post("/login", secret=let_in(catalogue, "ann", "administer", 1))
    return browser


def test_every_page_is_answered_and_a_decision_saved_by_who_logged_in(asked):
    browser = logged_in(asked)
    kinds = ("sure", "new", "doubtful", "second", "unsure", "unasked")
    paths = ["/", *(f"/queue?kind={kind}" for kind in kinds), "/individuals", "/individuals/1", "/search?q=bay"]
    for path in [*paths, "/search?q=p3", "/reviewers", "/encounters/1", "/encounters/6"]:
        browser.get(path)
    assert "0 km away" in browser.page
    answer = browser.decide(6, "confirm", "w_2")
    assert "Saved" in browser.get(answer.headers["location"])
    assert decisions_of(asked)[-1].who == "ann"
    [found] = [one for one in holdings_of(asked).encounters if one.id == 6]
    assert found.individual == "w_2"


def test_an_import_is_one_line_of_the_log_which_is_read_person_by_person(asked):
    imported = {"at": "2026-01-01T00:00:00+00:00", "who": "bob", "note": IMPORT_NOTE, "seen": 0}
    with asked.database.writing() as connection:
        rows = [{"encounter_id": number, "action": "confirm", "individual": 1, **imported} for number in (5, 3)]
        numbers = inserted(connection, DecisionRow, DecisionRow.id, rows)
        inserted(connection, DecisionStateRow, None, ({"decision_id": number, "holds": True} for number in numbers))
    browser = logged_in(asked)
    page = browser.get("/log?who=bob")
    assert "imported 3 photos in 2 encounters" in page
    assert page.count('<li class="imported"') == 1
    assert "imported" not in browser.get("/log?who=ann")
    assert "imported" not in browser.get(f"/log?before={numbers[0]}")
    single = browser.get(f"/log?who=bob&first={numbers[0]}&last={numbers[1]}")
    assert re.findall(r'id="decision-(\d+)"', single) == [str(number) for number in reversed(numbers)]


def test_what_is_left_of_the_newest_source_is_counted_and_listed(asked):
    browser = logged_in(asked)
    assert "<strong>1</strong> Left of the newest photos: <bdi>season</bdi>" in browser.get("/")
    assert "e6 enc6" in browser.get("/queue?newest=1")
