"""A season decided by keyboard alone in a real browser, and every page looked at by axe."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flukeprint.catalogue.sightings import decisions_of, holdings_of

CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(path).exists()), None)
WHALES = {"e_known": "w_2", "e_again": "w_2", "e_four": "w_4", "e_new": "w_50", "e_new_again": "w_50"}


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install 'flukeprint[dev]'"
    )
    if CHROMIUM is None:
        pytest.skip("there is no /usr/bin/chromium (Debian: chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


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
        run.wait(20)


class Page:
    """A browser's page, with what it asked elsewhere and complained of."""

    def __init__(self, chromium, width: int = 1366, scheme: str = "light") -> None:
        self.context = chromium.new_context(viewport={"width": width, "height": 768}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.asked: set[str] = set()
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.add(request.url.split("/")[2]))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def leave(self, *keys: str) -> None:
        """Press keys of which the last one leads to another page."""
        self.press(*keys[:-1])
        with self.page.expect_navigation(wait_until="load"):
            self.page.keyboard.press(keys[-1])

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()


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
def test_no_page_has_a_serious_fault_for_those_who_see_or_move_otherwise(chromium, served, number, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = Page(chromium, width, scheme)
    page.page.goto(f"{served}/encounters/{number('e_known')}")
    page.leave("u")
    paths = ["/", "/queue?kind=sure", f"/encounters/{number('e_known')}", "/individuals", "/individuals/3", "/log"]
    for path in [*paths, "/search?q=w_5", "/nothing"]:
        page.page.goto(served + path)
        found = axe.Axe().run(page.page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    page.page.goto(f"{served}/encounters/{number('e_known')}")
    page.page.keyboard.press("?")
    assert page.page.locator("#keys").evaluate("e => e.scrollTop") == 0
    found = axe.Axe().run(page.page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
