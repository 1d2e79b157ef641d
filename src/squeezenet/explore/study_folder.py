"""The folder of a study.

study.json       settings: the networks' metaparameters, the recipe, the data
study.db         Optuna's database, unless --storage names another
trials/          a run folder per trial
networks/        of a search: the networks of its front, for train --arch
finalists/       of a search: the compressed finalists
workers/         a lock for each process that works on the study
report/          ``study.html``, figures, ``trials.csv``

That of table 2 has ``trials/`` for its two networks, and:
files/           the compressed networks
rows/            what was measured of each row
work/            checkpoints of what is being retrained
report/          ``table.html``, a figure, ``table.csv``
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from squeezenet.errors import CheckpointError, StudyError, UsageError
from squeezenet.explore.storage import sqlite_url
from squeezenet.explore.study import settings_difference
from squeezenet.files import is_leftover, make_folder, remove_leftovers
from squeezenet.folder_lock import LOCK
from squeezenet.report.study.results import PAGE
from squeezenet.sealed_files import read_sealed_json, write_sealed_json

_SETTINGS, _DATABASE, _TRIALS, REPORT = "study.json", "study.db", "trials", "report"
_WORKERS, _NETWORKS, _FINALISTS = "workers", "networks", "finalists"


class StudyFolder:
    """Opens or makes a study's folder. ``trials`` has the run folders, ``report`` the results."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials = path / _TRIALS
        self.report = path / REPORT
        self.networks = path / _NETWORKS
        self.finalists = path / _FINALISTS

    @property
    def name(self) -> str:
        """The study's name in a database that many share: the folder's name."""
        return self.path.absolute().name

    @property
    def page(self) -> Path:
        """The page of the report."""
        return self.report / PAGE

    @property
    def database(self) -> str:
        """The URL of the folder's own database."""
        return sqlite_url(self.path / _DATABASE)

    def require_own(self) -> None:
        """Refuse what is neither new nor empty nor a study's folder; change nothing.

        Raises:
            UsageError: it holds something else.
            CheckpointError: it cannot be read.
        """
        path = self.path
        try:
            if path.is_symlink() and not path.exists():
                raise UsageError(f"{path}: is a link to nothing, expected a folder for the study")
            if path.exists() and not path.is_dir():
                raise UsageError(f"{path}: is a file, expected a folder for the study")
            names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
        if _SETTINGS in names:
            return
        ours = (LOCK, _WORKERS, _DATABASE)
        others = {n for n in names if n not in ours and not is_leftover(n)}
        if others:
            raise UsageError(f"{path}: is not empty and holds no study; choose another --out")

    def require_study(self) -> None:
        """Refuse to join where nobody has started a study.

        Raises:
            StudyError: the folder has none.
        """
        if not (self.path / _SETTINGS).is_file():
            raise StudyError(
                f"{self.path}: has no study to join; the first process starts it without --join"
            )

    def forget(self) -> None:
        """Remove the settings that ``open`` wrote, of a study that could not be made."""
        (self.path / _SETTINGS).unlink(missing_ok=True)

    def open(self, settings: dict[str, Any]) -> bool:
        """Write the settings of a new study, or check those of the one that is there.

        Returns whether there was one. The folder must be locked.

        Raises:
            StudyError: it has other settings, or they are damaged.
            CheckpointError: the folder cannot be written.
        """
        file = self.path / _SETTINGS
        if file.exists():
            found = read_sealed_json(file)
            if found is None:
                raise StudyError(f"{file}: is damaged; choose another --out")
            if found != settings:
                raise StudyError(
                    f"{self.path}: holds a study with {settings_difference(found, settings)}; "
                    "choose another --out"
                )
            return True
        try:
            make_folder(self.path)
            remove_leftovers(self.path)
            write_sealed_json(file, settings)
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: cannot be written ({error.strerror}); choose another --out"
            ) from None
        return False
