"""The order of the tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the pipelines first: they take as long as all the rest, which other processes do meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")
