"""A season decided by keyboard alone in a real browser, and every page looked at by axe."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from catalogue_model import import_folder, save_whales
from real_browser import Page
from sqlalchemy import select

from flukeprint.catalogue.deciding import Wish, decide
from flukeprint.catalogue.entities import AnswerRow
from flukeprint.catalogue.sightings import decisions_of, holdings_of

WHALES = {"e_known": "w_2", "e_again": "w_2", "e_four": "w_4", "e_new": "w_50", "e_new_again": "w_50"}


@pytest.fixture
def served(catalogue, tmp_path) -> Iterator[str]:
    """The pages as the command serves them; yield their address."""
    command = [sys.executable, "-m", "flukeprint.cli", "review", catalogue.place, "--who", "ann", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as run:
        address = run.stdout.readline().split()[1]
        for _ in range(300):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address.rstrip("/")
        run.terminate()
        run.wait(120)


def decide_all(page: Page) -> int:
    """Decide a season as somebody who knows the whales; return how many keys it took."""
    keys = 0
    for _ in WHALES:
        whale = WHALES[page.text("h1").split()[1]]
        wanted = [card.get_attribute("data-id") for card in page.page.locator(".candidates a.card").all()]
        known = whale in wanted
        pressed = [*(["ArrowDown"] * wanted.index(whale)), "Enter"] if known else ["n", *whale, "Enter"]
        page.leave(*pressed)
        keys += len(pressed)
    return keys


def test_a_season_is_decided_by_keyboard_alone(chromium, served, catalogue):
    page = Page(chromium)
    page.page.goto(served)
    page.leave("Enter")
    assert page.page.evaluate("document.activeElement === document.body || document.activeElement.id === 'main'")
    keys = decide_all(page)
    page.leave("h")
    assert "Everything is decided" in page.text("main")
    assert {one.name: one.individual for one in holdings_of(catalogue).encounters if one.name in WHALES} == WHALES
    assert keys <= 5 + len("nw_50") + 2  # one key for most, and the id of a new whale
    assert page.asked == {served.partition("//")[2]}
    assert page.complaints == []


def test_enter_does_what_the_blue_button_says(chromium, served, catalogue, number):
    page = Page(chromium)
    page.page.goto(f"{served}/encounters/{number('e_new')}")
    for clicked in ('[data-do="flip"]', ".candidates a.card", ".meaning summary"):
        page.page.locator(clicked).first.click()
        assert page.page.evaluate("document.activeElement === document.body"), clicked
    page.page.locator('[data-do="flip"]').focus()
    page.press(" ")
    assert page.page.evaluate("document.activeElement.dataset.do") == "flip"
    page.page.evaluate("document.activeElement.blur()")
    page.press("Enter")
    assert page.page.locator("#new").evaluate("e => e.open")
    page.press("Escape")
    page.leave("c")
    assert decisions_of(catalogue)[-1].action == "confirm"


def test_lines_join_the_matched_keypoints_of_the_photos_that_were_compared(chromium, served, number, keypoints):
    page = Page(chromium)
    page.page.goto(f"{served}/encounters/{number('e_known')}")
    assert "1 / 2" in page.text("#query .count")
    page.press("l")
    assert "2 / 2" in page.text("#query .count")
    assert keypoints[1] in page.text("#candidate .caption .text")
    assert page.text(".matched") == "3 matched keypoints"
    page.page.wait_for_function("document.querySelector('.lines .line').getAttribute('d')")
    first = path_of(page)
    assert len(first) == 3
    # From the middle of the one picture to a place a quarter of the other one's width from its left side.
    assert first[0] == pytest.approx(
        [*place_of(page, "#query", 0.5, 0.5), *place_of(page, "#candidate", 0.25, 0.5)], abs=1
    )
    page.press("f")
    assert path_of(page)[0][2] == pytest.approx(place_of(page, "#candidate", 0.75, 0.5)[0], abs=1)
    page.press("+", "+")
    assert len(path_of(page)) < 3  # those that are out of sight are left out
    page.press(",")
    assert path_of(page) == []
    assert page.text(".matched") == ""
    page.press("l")
    assert not page.page.locator(".lines").is_visible()
    assert page.complaints == []


def path_of(page: Page) -> list[list[float]]:
    """Return the ends of the lines in px of the window."""
    left, top, path = page.page.evaluate(
        "() => { const box = document.querySelector('.lines').getBoundingClientRect();"
        " return [box.left, box.top, document.querySelector('.lines .line').getAttribute('d') || '']; }"
    )
    numbers = [[float(number) for number in re.findall(r"[\d.]+", line)] for line in path.split("M")[1:]]
    return [[a + left, b + top, c + left, d + top] for a, b, c, d in numbers]


def place_of(page: Page, pane: str, x: float, y: float) -> list[float]:
    """Return where a place of a whole picture is in the window."""
    stage = page.page.locator(f"{pane} .stage").bounding_box()
    page.page.wait_for_function("pane => document.querySelector(`${pane} img`).naturalWidth", arg=pane)
    wide, high = page.page.locator(f"{pane} img").first.evaluate("e => [e.naturalWidth, e.naturalHeight]")
    fits = min(stage["width"] / wide, stage["height"] / high)
    return [
        stage["x"] + stage["width"] / 2 + (x - 0.5) * wide * fits,
        stage["y"] + stage["height"] / 2 + (y - 0.5) * high * fits,
    ]


def test_undo_zoom_photos_and_skipping_by_key(chromium, served, catalogue, number):
    page = Page(chromium, scheme="dark")
    first = number("e_known")
    page.page.goto(f"{served}/encounters/{first}")
    page.press("ArrowRight", ".", "+", "+", "Shift+ArrowLeft", "f", "o", "x")
    assert "2 / 3" in page.text("#candidate .count")
    assert "2 / 2" in page.text("#query .count")
    query, candidate = (
        page.page.locator(f"{pane} .stage img").evaluate("e => e.style.transform") for pane in ("#query", "#candidate")
    )
    assert "scale(1.96)" in query
    assert query.split(" scale")[0] == candidate.split(" scale")[0] != "translate(0px, 0px)"
    assert "scaleX(-1)" in candidate
    assert "scaleX(-1)" not in query
    page.leave("u")
    assert "Saved" in page.text(".saved")
    page.leave("z")
    assert page.page.url.split("?")[0].endswith(f"/encounters/{first}")
    assert [one.action for one in decisions_of(catalogue)][-2:] == ["unsure", "undo"]
    page.leave("j")
    assert not page.page.url.endswith(f"/encounters/{first}")
    page.leave("/", *"w_5", "Enter")
    assert "w_5" in page.text("main .cards")
    assert page.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(1366, "dark"), (420, "light")])
def test_no_page_has_a_serious_fault_for_those_who_see_or_move_otherwise(
    chromium, served, number, keypoints, width, scheme
):
    page = Page(chromium, width, scheme)
    page.page.goto(f"{served}/encounters/{number('e_known')}")
    page.leave("u")
    paths = ["/", "/queue?kind=sure", f"/encounters/{number('e_known')}", "/individuals", "/individuals/3", "/log"]
    for path in [*paths, "/log?who=ann", "/queue?newest=1", "/search?q=w_5", "/nothing"]:
        page.page.goto(served + path)
        assert page.serious_faults() == []
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    page.page.goto(f"{served}/encounters/{number('e_known')}")
    page.press("l")
    assert page.page.locator(".lines").get_attribute("hidden") is None
    assert page.serious_faults() == []
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    page.page.keyboard.press("?")
    assert page.page.locator("#keys").evaluate("e => e.scrollTop") == 0
    assert page.serious_faults() == []


@pytest.mark.parametrize("name", ["e_new", "e_known"])
@pytest.mark.parametrize("whale", ["w_81c722f", "=".join(["a_long_id"] * 6)])
def test_what_the_buttons_do_can_be_read_on_a_narrow_page(chromium, served, catalogue, number, name, whale):
    page = Page(chromium, 420)
    with catalogue.database.reading() as connection:
        kept = select(AnswerRow.content).where(AnswerRow.encounter_id == number(name))
        best = json.loads(connection.execute(kept).scalar_one())["candidates"][0]["id"]
    decide(catalogue, [Wish("rename", individual=best, new_id=whale)], "ann")
    page.page.goto(f"{served}/encounters/{number(name)}")
    buttons = page.page.locator(".buttons > *").all()
    assert len(buttons) == 5
    heights = [button.bounding_box()["height"] for button in buttons if whale not in button.inner_text()]
    assert max(heights) < 45, "one line"
    confirm = next(button for button in buttons if whale in button.inner_text().replace("\n", ""))
    assert confirm.bounding_box()["height"] < (45 if len(whale) < 10 else 110)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 420


@pytest.mark.parametrize(("width", "abreast"), [(1366, 2), (420, 1)])
def test_sightings_of_an_individual_are_compact(chromium, served, catalogue, number, width, abreast):
    decide(catalogue, [Wish("confirm", number("e_known"), individual="w_2")], "ann")
    page = Page(chromium, width)
    [key] = [one.key for one in holdings_of(catalogue).individuals if one.id == "w_2"]
    page.page.goto(f"{served}/individuals/{key}")
    cards = [card.bounding_box() for card in page.page.locator(".sighting").all()]
    assert len({card["x"] for card in cards}) == abreast
    assert len(cards) == 4
    assert sum(card["height"] for card in cards) / abreast < 500
    # What an encounter of one photo is called stands beside it.
    photo, words = (page.page.locator(f".sighting .{part}").last.bounding_box() for part in ("strip", "words"))
    assert words["x"] >= photo["x"] + photo["width"]


def test_whoever_decides_the_newest_photos_gets_no_others_by_keyboard(chromium, served, catalogue, tmp_path):
    import_folder(catalogue, save_whales(tmp_path / "more", {"f_1/1.jpg": (61, 1), "f_2/2.jpg": (62, 1)}), "encounters")
    page = Page(chromium)
    page.page.goto(f"{served}/queue?newest=1")
    with page.page.expect_navigation():
        page.page.locator("a.card").first.click()
    page.leave("j")
    assert "f_2" in page.text("h1")
    page.leave("n", "Enter")
    assert "f_1" in page.text("h1")
    page.leave("z")
    assert "f_2" in page.text("h1")
    page.leave("u")
    assert "f_1" in page.text("h1")
    page.leave("n", "Enter")
    assert "f_2" in page.text("h1")  # somebody was unsure
    assert page.complaints == []
