"""What the tests of the commands share."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Return a function that puts a stub in place of a library's function and returns the list of its calls."""

    def put(target: str, result: Any) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def called(*arguments: Any, **options: Any) -> Any:
            calls.append((arguments, options))
            return result

        monkeypatch.setattr(target, called)
        return calls

    return put
