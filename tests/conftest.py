"""The order of the tests, and a real browser."""

import pytest
from real_browser import CHROMIUM

from flukeprint import core  # noqa: F401 - before torch, whose threads then sleep while they wait for each other

# The files that take longest; of the slow suite, what needs no finished project goes before what finds it made by then.
FIRST = (
    "test_pipeline.py",
    "test_several_machines.py",
    "test_members_on_two_machines.py",
    "test_members_command.py",
    "test_hostile_files.py",
    "test_catalogue_command.py",
    "test_stages.py",
    "test_processes.py",
    "test_metric_recipe.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, so that no process waits for another at the end."""
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


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
