"""A page in a real browser: Debian's Chromium, by Playwright (the fixture `chromium` of conftest.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(path).exists()), None)


class Page:
    """A browser's page, with what it asked elsewhere and complained of."""

    def __init__(self, chromium, width: int = 1366, scheme: str = "light") -> None:
        self.context = chromium.new_context(viewport={"width": width, "height": 768}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)  # the machine may be busy
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

    def serious_faults(self) -> list[tuple[str, str]]:
        """Return what axe takes for a serious fault for those who see or move otherwise: its rule, and where."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")
        found = axe.Axe().run(self.page).response["violations"]
        return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
