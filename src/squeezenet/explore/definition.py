"""A study with every choice made: what follows from a user's options and from the data."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from squeezenet.arch.serialization import to_plain
from squeezenet.data.locations import data_name
from squeezenet.data.sources import TrainingData
from squeezenet.explore.plan import TrialPlan
from squeezenet.explore.search import Search
from squeezenet.report.study.results import PaperFigure, SearchResults, StudyResults, TrialRow
from squeezenet.train.plan import TrainOptions
from squeezenet.train.recipe import RECIPES, Recipe


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyDefinition:
    """A sweep, or a search.

    ``title`` and ``axis`` are for the report. ``plans`` are
    the trials of a sweep, ``paper`` the paper's figures for its networks; a search has a ``search``
    instead. ``training`` is what the user said of the recipe, ``recipe`` what follows from it.
    ``settings`` are what the study must have in common with the one that it goes on with: all but
    the number of its trials. ``shown`` is what the report says besides data and recipe.
    """

    title: str
    axis: str
    source: str
    data: TrainingData
    training: TrainOptions
    recipe: Recipe
    settings: dict[str, Any]
    measured_on: str
    command: str
    plans: tuple[TrialPlan, ...] = ()
    paper: tuple[tuple[str, PaperFigure], ...] = ()
    search: Search | None = None
    shown: tuple[tuple[str, str], ...] = ()

    def results(
        self, name: str, trials: Sequence[TrialRow], search: SearchResults | None = None
    ) -> StudyResults:
        """Return the study for its report."""
        return StudyResults(
            name=name,
            title=self.title,
            axis=self.axis,
            data=self.measured_on,
            settings=(
                *recipe_shown(self.source, self.data, self.training, self.recipe),
                *self.shown,
            ),
            command=self.command,
            trials=tuple(trials),
            paper=self.paper,
            search=search,
        )


def recipe_shown(
    source: str, data: TrainingData, training: TrainOptions, recipe: Recipe
) -> list[tuple[str, str]]:
    """Return what a report says of data and recipe, as pairs of a name and a value."""
    unit = "epochs" if recipe.max_steps is None else "steps"
    batch_norm = recipe.batch_norm if training.batch_norm is None else training.batch_norm
    return [
        ("data", data_name(source)),
        ("training images", f"{len(data.train):,}"),
        ("validation images", f"{len(data.val):,}"),
        ("classes", str(len(data.class_names))),
        ("recipe", recipe.name),
        ("length", f"{recipe.max_steps or recipe.epochs} {unit}"),
        ("batch size", str(recipe.batch_size)),
        ("peak learning rate", f"{recipe.learning_rate:g}"),
        ("batch normalisation", str(batch_norm)),
    ]


def data_settings(data: TrainingData) -> dict[str, Any]:
    """Return what tells one data set from another."""
    return {"classes": len(data.class_names), **data.fingerprint().summary}


def given(options: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults."""
    found = {}
    for each in dataclasses.fields(options):
        value = getattr(options, each.name)
        if each.default is not dataclasses.MISSING and value != each.default:
            found[each.name] = value
    return found


def training_settings(training: TrainOptions, recipe: Recipe) -> dict[str, Any]:
    """Return what a study must have in common with the one that it resumes.

    The recipe of a file is its contents, not its path.
    """
    is_named = training.recipe is None or training.recipe in RECIPES
    return given(training) | ({} if is_named else {"recipe": to_plain(recipe)})


def command_line(kind: str, source: str, out: str, *options: dict[str, Any]) -> str:
    """Return the command that makes a study, from options that are no defaults."""
    words = ["squeezenet", "explore", kind, source, "--out", out]
    for each in options:
        words += option_words(each)
    return shlex.join(words)


def option_words(options: dict[str, Any]) -> list[str]:
    """Return options as the words of a command line."""
    words = []
    for key, value in options.items():
        name = "--from" if key == "start" else f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(name if value else name.replace("--", "--no-", 1))
        else:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [name, shown]
    return words
