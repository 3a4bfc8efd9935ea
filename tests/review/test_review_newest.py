"""What is left of the source that came last, told apart from older photos that nobody knows."""

from __future__ import annotations

import re

import pytest
from catalogue_model import calibration, fake_model, import_folder, save_whales

from flukeprint.catalogue.deciding import Wish, decide
from flukeprint.catalogue.restriction import restriction
from flukeprint.catalogue.season import ask
from flukeprint.catalogue.sightings import holdings_of
from flukeprint.catalogue.vector_cache import known_model

NEXT = {"f_two/n1.jpg": (2, 20), "f_sixty/n2.jpg": (60, 1), "f_sixty_again/n3.jpg": (60, 2)}


@pytest.fixture
def next_season(catalogue, number, tmp_path) -> dict[str, int]:
    """Import a second season and ask; return the numbers of its encounters."""
    import_folder(catalogue, save_whales(tmp_path / "season 2", NEXT), "encounters")
    model, everything = fake_model(calibration()), restriction(())
    ask(catalogue, model, known_model(catalogue, model), everything, everything)
    return {one.name: one.id for one in holdings_of(catalogue).encounters if one.name.startswith("f_")}


def tile(page: str) -> tuple[str, str] | None:
    found = re.search(r'href="(/queue\?newest=1)"><strong>(\S+)</strong> Left of the newest photos: (.*?)</a>', page)
    return None if found is None else (found[2], re.sub(r"<[^>]*>", "", found[3]))


def listed(page: str) -> list[str]:
    return re.findall(r"<strong><bdi>e\d+ (\S+)</bdi>", page)


def test_the_start_page_counts_what_is_left_of_the_newest_source(browser, catalogue, next_season):
    assert tile(browser.get("/")) == ("3", "season 2")
    decide(catalogue, [Wish("unsure", next_season["f_two"])], "bob")
    assert tile(browser.get("/")) == ("2", "season 2")
    decide(catalogue, [Wish("new", next_season[name], individual=name) for name in ("f_sixty", "f_sixty_again")], "bob")
    assert tile(browser.get("/")) == ("0", "season 2")


def test_known_individuals_that_are_imported_later_are_no_new_season(browser, catalogue, next_season, tmp_path):
    import_folder(catalogue, save_whales(tmp_path / "old", {"w_9/9_0.jpg": (9, 0)}))
    assert tile(browser.get("/")) == ("3", "season 2")


def test_the_queue_of_the_newest_source_has_nothing_else(browser, next_season):
    everything = listed(browser.get("/queue?kind=sure"))
    assert listed(browser.get("/queue?kind=sure&newest=1")) == ["f_two"]
    assert {"e_known", "f_two"} < set(everything)
    assert set(listed(browser.get("/queue?kind=new&newest=1"))) == {"f_sixty", "f_sixty_again"}
    assert 'href="/queue?kind=new&amp;newest=1"' in browser.page


def test_deciding_skipping_and_undoing_stay_within_it(browser, catalogue, next_season):
    first = next_season["f_two"]
    page = browser.get(f"/encounters/{first}?newest=1")
    others = {next_season["f_sixty"], next_season["f_sixty_again"]}
    assert int(re.search(r'id="next" href="/encounters/(\d+)\?newest=1"', page)[1]) in others
    saved = browser.decide(first, "confirm", "w_2", newest=browser.field("newest")).headers["location"]
    number, decision = map(int, re.fullmatch(r"/encounters/(\d+)\?saved=(\d+)&newest=1", saved).groups())
    assert number in others
    assert browser.get(saved).count('name="newest"') >= 2  # of the decision and of its undo
    undone = browser.post(f"/decisions/{decision}/undo", newest=browser.field("newest")).headers["location"]
    assert re.fullmatch(rf"/encounters/{first}\?saved=\d+&newest=1", undone)
    browser.get(f"/encounters/{first}")
    assert re.fullmatch(r"/encounters/\d+\?saved=\d+", browser.decide(first, "unsure").headers["location"])


@pytest.mark.parametrize("layout", ["table with days", "table of single photos"])
def test_a_table_is_a_source_too(browser, catalogue, tmp_path, layout):
    save_whales(tmp_path / "Été [1]", {"x1.jpg": (70, 1), "x2.jpg": (71, 1)})
    days = ",2026-05-01" if layout == "table with days" else ","
    table = tmp_path / "Été [1]" / "100%_sightings.csv"
    table.write_text(f"image,date\nx1.jpg{days}\nx2.jpg{days}\n", encoding="utf-8")
    import_folder(catalogue, table)
    assert tile(browser.get("/")) == ("2", "100%_sightings.csv")
    assert listed(browser.get("/queue?kind=unasked&newest=1")) == ["x1.jpg", "x2.jpg"]
