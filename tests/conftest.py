"""The order of the tests, and a real browser."""

import pytest
from real_browser import CHROMIUM

from flukeprint import core  # noqa: F401 - before torch, whose threads then sleep while they wait for each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the pipelines first: they take as long as all the rest, which other processes do meanwhile."""
    first = ("test_pipeline.py", "test_metric_recipe.py")
    items.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else len(first))


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
