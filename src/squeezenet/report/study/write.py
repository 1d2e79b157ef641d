"""Write a study's report: one page, figures as PNG and SVG, and all trials as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

from squeezenet.output_folder import OutputFolder
from squeezenet.report.csv_cells import csv_text
from squeezenet.report.render import FIGURE_SUFFIXES, rendered, reproducible_figures
from squeezenet.report.study.figures import study_figures
from squeezenet.report.study.page import study_page
from squeezenet.report.study.results import PAGE, StudyResults, TrialMeasures

TRIALS = "trials.csv"


def write_study(folder: Path, results: StudyResults) -> Path:
    """Write the report into ``folder``; return the path of its page.

    Raises:
        UsageError, CheckpointError: see ``OutputFolder.write``.
    """
    files: dict[str, bytes] = {}
    with reproducible_figures():
        for name, figure in study_figures(results).items():
            for suffix in FIGURE_SUFFIXES:
                files[f"{name}{suffix}"] = rendered(figure, suffix[1:])
    files[TRIALS] = trials_csv(results).encode()
    files[PAGE] = study_page(results).encode()
    return OutputFolder(folder, is_ours=True).write(files)[-1]


def trials_csv(results: StudyResults) -> str:
    """Return a line per trial; what was not measured is empty."""
    measured = [field.name for field in dataclasses.fields(TrialMeasures)]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["trial", "variant", "value", "seed", "state", *measured, "error"])
    for trial in results.trials:
        values = [_cell(trial.measures, name) for name in measured]
        value = trial.label if trial.x is None else trial.x
        row = [trial.name, trial.variant, value, trial.seed, trial.state, *values, trial.error]
        writer.writerow([csv_text(cell) if isinstance(cell, str) else cell for cell in row])
    return file.getvalue()


def _cell(measures: TrialMeasures | None, name: str) -> object:
    value = None if measures is None else getattr(measures, name)
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "" if value is None else value
