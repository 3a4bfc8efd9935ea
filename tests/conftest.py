"""The order of the tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the pipelines first: they take as long as all the rest, which other processes do meanwhile."""
    first = ("test_pipeline.py", "test_metric_recipe.py")
    items.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else len(first))
