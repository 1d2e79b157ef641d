"""Recipes in JSON files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from squeezenet.cli.app import run as cli
from squeezenet.errors import SpecError, UnknownNameError
from squeezenet.model.load import load_model
from squeezenet.train.recipe import RECIPES, recipe_named
from squeezenet.train.recipe_file import find_recipe


def written(folder: Path, text: str) -> str:
    file = folder / "mine.json"
    file.write_text(text)
    return str(file)


def test_a_file_says_what_differs(tmp_path: Path) -> None:
    small = recipe_named("small")
    recipe = find_recipe(
        written(tmp_path, '{"base": "small", "epochs": 7, "augmentation": {"padding": 2}}')
    )
    assert recipe.name == "mine" and recipe.epochs == 7
    assert recipe.augmentation == dataclasses.replace(small.augmentation, padding=2)
    changed = {"name": "mine", "epochs": 7, "augmentation": recipe.augmentation}
    assert recipe == dataclasses.replace(small, **changed)
    named = find_recipe(written(tmp_path, '{"name": "other"}'))
    assert named == dataclasses.replace(recipe_named("default"), name="other")


@pytest.mark.parametrize("name", RECIPES)
def test_names_are_recipes_too(name: str) -> None:
    assert find_recipe(name) == recipe_named(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no recipe, expected a JSON object such as"),
        ("[1]", "is no recipe"),
        ("[" * 100_000, "is no recipe"),
        ('{"base": "best"}', "unknown base 'best', expected one of default"),
        ('{"base": []}', r"unknown base \[\]"),
        ('{"base": "small", "epoch": 7}', "unknown key 'epoch'"),
        ('{"base": "small", "epochs": "7"}', "mine.json.epochs: found str, expected int"),
        ('{"base": "small", "epochs": 0}', "epochs is 0, expected at least 1"),
        ('{"base": "small", "augmentation": 3}', "mine.json.augmentation: found"),
        ('{"base": "small", "augmentation": {"cutout": 2}}', "cutout 2"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        find_recipe(written(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="expected a recipe in JSON"):
        find_recipe(str(tmp_path / "none.json"))


def test_train_and_sweeps_take_a_file(tmp_path: Path) -> None:
    recipe = written(tmp_path, '{"base": "digits", "epochs": 1, "augmentation": {"colour": 0}}')
    run = tmp_path / "run"
    assert cli(["train", "digits", "--recipe", recipe, "--out", str(run)]) == 0
    provenance = load_model(run).record.provenance
    assert provenance["recipe"] == "mine" and provenance["augmentation"]["colour"] == 0
    study = ["explore", "sr", "digits", "--recipe", recipe, "--out", str(tmp_path / "study")]
    assert cli([*study, "--values", "0.25", "--seeds", "1", "--arch", "squeezenet_tiny"]) == 0
