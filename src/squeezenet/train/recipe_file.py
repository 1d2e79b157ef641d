"""A recipe as a JSON file: what ``--recipe`` takes beside the name of a recipe.

The file is an object with the fields of ``Recipe`` that differ from those of the recipe ``base``
(default: ``default``), as in ``{"base": "small", "epochs": 25, "augmentation": {"padding": 2}}``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from squeezenet.arch.json_file import read_json
from squeezenet.arch.serialization import from_plain, to_plain
from squeezenet.errors import SpecError
from squeezenet.train.recipe import RECIPES, Recipe, recipe_named

RECIPE_SUFFIX = ".json"


def find_recipe(recipe: str) -> Recipe:
    """Return the recipe of this name, or the one in a file whose name ends in ``.json``.

    The name of a file's recipe is its field ``name``, by default the file's without the suffix.

    Raises:
        UnknownNameError: no recipe has that name, or there is no such file.
        SpecError: the file does not describe a recipe.
    """
    if not recipe.endswith(RECIPE_SUFFIX):
        return recipe_named(recipe)
    file = Path(recipe)
    data = read_json(file, "a recipe")
    if not isinstance(data, dict):
        raise SpecError(
            f"{file}: is no recipe, expected a JSON object such as "
            '{"base": "small", "epochs": 20}'
        )
    base = data.pop("base", "default")
    if not isinstance(base, str) or base not in RECIPES:
        raise SpecError(f"{file}: unknown base {base!r}, expected one of {', '.join(RECIPES)}")
    changed = _merged(to_plain(RECIPES[base]), {"name": file.stem} | data)
    return from_plain(Recipe, changed, str(file))


def _merged(base: Any, changes: Any) -> Any:
    """Return ``base`` with the members of ``changes``, which may have objects in them."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return base | {name: _merged(base.get(name), value) for name, value in changes.items()}
