"""Recipes: complete ways of training, chosen by one word; a recipe's values replace those of the sections."""

from __future__ import annotations

from typing import Any

from flukeprint.core.sections import Section

# The sections that a recipe may change. Every recipe names all of them, so that a stage can depend on its part.
RECIPE_SECTIONS = ("finetune", "embed", "full_head", "submit")


class RecipeParams(Section):
    """`recipes.<recipe>`: values that replace those of the sections; what is not named here stays as it is there."""

    finetune: dict[str, Any]
    embed: dict[str, Any]
    full_head: dict[str, Any]
    submit: dict[str, Any]


def with_recipe(content: Any, name: str) -> Any:
    """Return the content of params.yaml with the recipe's values in the sections; unusable content is left alone."""
    recipe = _branch(content, "recipes", name)
    if not isinstance(recipe, dict):
        return content
    changes = {section: recipe[section] for section in RECIPE_SECTIONS if recipe.get(section) is not None}
    return {**content, **{section: _merged(content.get(section), change) for section, change in changes.items()}}


def is_of_recipe(content: Any, name: str, path: tuple[Any, ...]) -> bool:
    """Tell whether the value at `path` (section, key, ...) comes from the recipe."""
    return _branch(content, "recipes", name, *path) is not None


def _branch(content: Any, *path: Any) -> Any:
    for key in path:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _merged(values: Any, changes: Any) -> Any:
    """Replace single values, also inside nested sections, and also by null."""
    if not (isinstance(values, dict) and isinstance(changes, dict)):
        return changes
    return values | {key: _merged(values.get(key), change) for key, change in changes.items()}
