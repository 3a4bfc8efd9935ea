"""The log: an import is one line of it, and it can be read person by person."""

from __future__ import annotations

import html
import re

import pytest
from catalogue_model import import_folder, save_whales

from flukeprint.catalogue.deciding import Wish, decide
from flukeprint.catalogue.sightings import decisions_of
from flukeprint.review import looking

IMPORTED = "imported 18 photos in 18 encounters: single decisions"


def lines_of(page: str) -> list[str]:
    """Return the lines of the log as people read them."""
    [log] = re.findall(r'<ol class="decisions">(.*?)</ol>', page, re.DOTALL)
    lines = re.findall(r"<li.*?</li>", log, re.DOTALL)
    return [html.unescape(" ".join(re.sub(r"<[^>]*>", " ", line).split())) for line in lines]


def link(page: str, words: str) -> str:
    """Return where a link leads that has these words."""
    [address] = set(re.findall(rf'href="([^"]*)"[^>]*>(?:<bdi>)?{words}', page))
    return html.unescape(address)


@pytest.mark.parametrize("path", ["/", "/log"])
def test_an_import_is_one_line_with_who_when_and_how_much(browser, path):
    [line] = lines_of(browser.get(path))
    assert re.fullmatch(rf"{IMPORTED} ann · 20\d\d-\d\d-\d\d \d\d:\d\d UTC · 1–18", line)


def test_the_single_rows_of_an_import_are_reached_from_its_line_and_can_be_undone(browser, catalogue, monkeypatch):
    monkeypatch.setattr(looking, "PER_PAGE", 10)
    page = browser.get(link(browser.get("/log"), "single decisions"))
    assert "What <bdi>ann</bdi> imported" in page
    assert [line.split()[-2] for line in lines_of(page)] == [str(number) for number in range(18, 8, -1)]
    page = browser.get(link(page, "Older"))
    assert [line.split()[-2] for line in lines_of(page)] == [str(number) for number in range(8, 0, -1)]
    assert "Older" not in page
    browser.post("/decisions/3/undo")
    assert not decisions_of(catalogue)[2].holds


def test_decisions_of_people_stand_beside_an_import_and_divide_what_was_imported_in_two(
    browser, catalogue, number, tmp_path
):
    decide(catalogue, [Wish("unsure", number("e_four"))], "bob")
    import_folder(catalogue, save_whales(tmp_path / "more", {"w_7/7_0.jpg": (7, 0), "w_8/8_0.jpg": (8, 0)}))
    decide(catalogue, [Wish("unsure", number("e_new"))], "bob")
    for path in ("/", "/log"):
        new, more, four, first = lines_of(browser.get(path))
        assert (f"e{number('e_new')} : unsure bob" in new, f"e{number('e_four')} : unsure bob" in four) == (True, True)
        assert more.startswith("imported 2 photos in 2 encounters: single decisions ann")
        assert first.startswith(IMPORTED)


def test_decisions_of_people_about_an_individual_stand_before_what_imports_said(browser, catalogue, number):
    decide(catalogue, [Wish("confirm", number("e_known"), individual="w_2")], "bob")
    page = browser.get("/individuals/3")
    people, _, imported = page.partition('<details class="imported"><summary>Imports said so of 3 encounters</summary>')
    assert [line.split()[3] for line in lines_of(people)] == ["bob"]
    assert [line.split()[-2:] for line in lines_of(imported)] == [["9", "Undo"], ["8", "Undo"], ["7", "Undo"]]


def test_imports_of_two_people_are_two_lines(browser, catalogue, tmp_path):
    import_folder(catalogue, save_whales(tmp_path / "more", {"w_7/7_0.jpg": (7, 0)}), who="bob")
    bob, ann = lines_of(browser.get("/log"))
    assert bob.startswith("imported 1 photo in 1 encounter: single decisions bob")
    assert ann.startswith(IMPORTED)


def test_the_log_is_read_person_by_person_and_page_by_page(browser, catalogue, number, monkeypatch):
    monkeypatch.setattr(looking, "PER_PAGE", 2)
    names = {"e_four": "bob", "e_new": "Zoë & <co>", "e_known": "bob", "e_again": "bob"}
    for name, who in names.items():
        decide(catalogue, [Wish("unsure", number(name))], who)
    page = browser.get(link(browser.get("/log"), "bob"))
    assert "Decisions of <bdi>bob</bdi>" in page
    assert [line.split()[0] for line in lines_of(page)] == [f"e{number(name)}" for name in ("e_again", "e_known")]
    page = browser.get(link(page, "Older"))
    assert [line.split()[0] for line in lines_of(page)] == [f"e{number('e_four')}"]
    assert [line.split()[0] for line in lines_of(browser.get(link(page, "← Newest")))] == [
        f"e{number(name)}" for name in ("e_again", "e_known")
    ]
    page = browser.get(link(browser.get(link(browser.get("/log"), "Older")), "Zoë"))
    assert len(lines_of(page)) == 1
    assert "Decisions of <bdi>Zoë &amp; &lt;co&gt;</bdi>" in page
    assert lines_of(browser.get("/log?who=ann"))[0].startswith(IMPORTED)
    assert "None yet." in browser.get("/log?who=nobody")


def test_nobody_can_write_a_decision_that_looks_like_an_import(browser, catalogue, number):
    first = number("e_known")
    browser.get(f"/encounters/{first}")
    refused = browser.decide(first, "confirm", "w_2", 422, note=" import ")
    assert "the note &#39;import&#39; is what imports leave in the log" in refused.text
    assert len(decisions_of(catalogue)) == 18


@pytest.mark.parametrize("query", ["before=0", "before=x", "first=1&last=99999999999", f"who={'x' * 201}"])
def test_what_makes_no_sense_of_a_log_is_refused(browser, query):
    assert browser.client.get(f"/log?{query}").status_code == 404
