"""Recipes: complete ways of training, chosen by one word; a recipe's values replace those of the sections."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

# The sections that a recipe may change. Every recipe names all of them, so that a stage can depend on its part.
RECIPE_SECTIONS = ("finetune", "embed", "full_head", "submit")


def with_recipe(content: Any, name: str) -> Any:
    """Return the content of params.yaml with the recipe's values in the sections; unusable content is left alone."""
    recipe = branch(content, "recipes", name)
    if not isinstance(recipe, dict):
        return content
    changes = {section: recipe[section] for section in RECIPE_SECTIONS if recipe.get(section) is not None}
    return {**content, **{section: _merged(content.get(section), change) for section, change in changes.items()}}


def replaced(content: Any, name: str) -> dict[tuple[str, ...], Any]:
    """Return the values of a recipe by their path (section, key, ...)."""
    sections = ((section, branch(content, "recipes", name, section)) for section in RECIPE_SECTIONS)
    return {path: value for section, values in sections for path, value in _leaves(values, (section,))}


def branch(content: Any, *path: Any) -> Any:
    """Return what stands at a path of nested sections; None if there is nothing."""
    for key in path:
        content = content.get(key) if isinstance(content, dict) and isinstance(key, Hashable) else None
    return content


def _leaves(values: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _leaves(value, (*path, str(key)))
    elif len(path) > 1:
        yield path, values


def _merged(values: Any, changes: Any) -> Any:
    """Replace single values, also inside nested sections, and also by null."""
    if not (isinstance(values, dict) and isinstance(changes, dict)):
        return changes
    return values | {key: _merged(values.get(key), change) for key, change in changes.items()}
