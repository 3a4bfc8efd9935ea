"""Which key of params.yaml counts where one value hides another: a recipe's the section's, finetune.epochs a profile's.

Nothing here changes a value, so no stage of dvc.yaml depends on this module.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flukeprint.core.recipes import RECIPE_SECTIONS, branch, replaced

_KEY = re.compile(rf"(?<![\w.])(?:{'|'.join(RECIPE_SECTIONS)})(?:\.[a-z_]+)+")


def effective_key(content: Any, recipe: Any, path: tuple[Any, ...]) -> str:
    """Return the dotted key whose value counts for `path` (section, key, ...)."""
    key = ".".join(map(str, path))
    within = len(path) > 1 and any(leaf[: len(path)] == path for leaf in replaced(content, recipe))
    return f"recipes.{recipe}.{key}" if within else key


def with_effective_keys(text: str, content: Any) -> str:
    """Put the key that counts in place of each key that a text names; `content` is that of params.yaml."""
    recipe = branch(content, "recipe")
    return _KEY.sub(lambda found: effective_key(content, recipe, tuple(found[0].split("."))), text)


def hidden_changes(content: Any, committed: Any) -> list[str]:
    """Name the values that differ from the last commit's, but that another value hides, which does not."""
    hiding = list(_hiding(content))
    changed = [pair for pair in hiding if branch(content, *pair[0]) != branch(committed, *pair[0])]
    return [
        f"{_dotted(path)}: is {branch(content, *path)!r} ({branch(committed, *path)!r} in the last commit), but "
        f"{_dotted(counts)} ({branch(content, *counts)!r}) counts in its place. Set that one "
        f"(-S {_dotted(counts)}=...), and put {_dotted(path)} back"
        for path, counts in changed
        if branch(content, *counts) == branch(committed, *counts)
    ]


def _hiding(content: Any) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield paths of values that do not count, each with the one that counts in its place."""
    recipe = str(branch(content, "recipe"))
    of_recipe = replaced(content, recipe)
    for path in of_recipe:
        yield path, ("recipes", recipe, *path)
    epochs = ("finetune", "epochs")
    counts = ("recipes", recipe, *epochs) if epochs in of_recipe else epochs
    if branch(content, *counts) is not None:
        yield ("profiles", str(branch(content, "profile")), "epochs", "finetune"), counts


def committed_text(path: Path) -> bytes | None:
    """Return a file as the last commit has it; None outside git, or where it is not in git."""
    command = ["git", "show", f"HEAD:./{path.name}"]
    try:
        return subprocess.run(command, cwd=path.parent, capture_output=True, check=True).stdout  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path)
