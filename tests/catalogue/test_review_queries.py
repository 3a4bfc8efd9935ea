"""The review page's queries, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json

import pytest
from catalogue_season import fill
from sqlalchemy import insert

from flukeprint.catalogue.entities import AnswerRow, ModelRow
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


def test_every_page_is_answered_and_a_decision_saved_by_who_logged_in(asked):
    from review_browser import Browser

    browser = Browser(asked, "", login=True, two_reviewers=True)
    browser.get("/login")
    browser.post("/login", secret=let_in(asked, "ann", "administer", 1))
    kinds = ("sure", "new", "doubtful", "second", "unsure", "unasked")
    paths = ["/", *(f"/queue?kind={kind}" for kind in kinds), "/individuals", "/individuals/1", "/search?q=bay"]
    for path in [*paths, "/search?q=p3", "/log", "/reviewers", "/encounters/1", "/encounters/6"]:
        browser.get(path)
    assert "0 km away" in browser.page
    answer = browser.decide(6, "confirm", "w_2")
    assert "Saved" in browser.get(answer.headers["location"])
    assert decisions_of(asked)[-1].who == "ann"
    [found] = [one for one in holdings_of(asked).encounters if one.id == 6]
    assert found.individual == "w_2"
