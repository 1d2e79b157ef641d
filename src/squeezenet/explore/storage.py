"""Optuna's storage: SQLite in the study's folder, or any database by its URL.

SQLite has no row locks, and Optuna reads a trial's state before it writes it, so two processes
could take the same trial. Here a transaction on SQLite begins by taking the write lock.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezenet.errors import MissingExtraError, SqueezeNetError, StudyError, UsageError, one_line

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage

HEARTBEAT_SECONDS = 20
GRACE_SECONDS = 90
"""A running trial without a heartbeat for so long is given to another worker."""
_LOCK_TIMEOUT = 60.0
"""Seconds that a process waits for SQLite's write lock, which others hold for milliseconds."""


def sqlite_url(file: Path) -> str:
    """Return the URL of an SQLite database."""
    return f"sqlite:///{file.absolute().as_posix()}"


def open_storage(
    url: str, when_stale: Callable[[optuna.Study, optuna.trial.FrozenTrial], None] | None = None
) -> RDBStorage:
    """Open or make the database. ``when_stale`` is called with a trial whose worker has gone.

    Raises:
        StudyError: the database cannot be reached, or holds something else.
        MissingExtraError: the driver of this kind of database is not installed.
    """
    import optuna
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage

    class PatientStorage(RDBStorage):
        """A heartbeat that cannot be written is left to the next one, or its thread would end."""

        def record_heartbeat(self, trial_id: int) -> None:
            with contextlib.suppress(StorageInternalError):
                super().record_heartbeat(trial_id)

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    _require_url(url)
    is_sqlite = url.startswith("sqlite:")
    # A connection that the server has closed is opened again.
    options: dict[str, Any] = {"pool_pre_ping": True}
    if is_sqlite:
        options = {"connect_args": {"timeout": _LOCK_TIMEOUT}}
    with storage_errors(url), quiet_optuna():
        try:
            storage = PatientStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=when_stale,
            )
        except RuntimeError as error:  # another version of Optuna wrote it
            raise StudyError(f"{shown_url(url)}: {error}") from None
        except ImportError as error:
            advice = "install it"
            if url.startswith("postgresql"):
                advice = "pip install 'psycopg[binary]', and begin the URL by postgresql+psycopg:"
            raise MissingExtraError(
                f"--storage {shown_url(url)}: the driver of this database is not installed "
                f"({error.__cause__ or error}); {advice}"
            ) from None
        if is_sqlite:
            _lock_at_begin(storage)
    return storage


def _require_url(url: str) -> None:
    """Refuse what is no URL of a database that processes can share.

    Raises:
        UsageError: it is not.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        parsed = make_url(url)
        parsed.get_dialect()
        is_memory = parsed.drivername.startswith("sqlite") and parsed.database in (
            None, "", ":memory:",
        )  # fmt: skip
    except (SQLAlchemyError, ValueError):
        parsed, is_memory = None, False
    if parsed is None or is_memory:
        raise UsageError(
            f"--storage {one_line(url.split('@')[-1], 80)}: is no URL of a database that processes "
            "can share, expected one such as postgresql+psycopg://user@host/name"
        )


def _lock_at_begin(storage: RDBStorage) -> None:
    """Begin every transaction with the write lock, as SQLAlchemy's manual says to do it."""
    from sqlalchemy import event

    @event.listens_for(storage.engine, "connect")
    def no_begin_of_its_own(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(storage.engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    storage.engine.dispose()  # of connections from before


@contextlib.contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what a database raises into one line.

    Optuna may raise another error while it handles one of the database.

    Raises:
        StudyError: for any error of the database.
    """
    try:
        yield
    except SqueezeNetError:
        raise
    except Exception as error:
        cause = _database_error(error)
        if cause is None:
            raise
        reason = " ".join(str(getattr(cause, "orig", None) or cause).split())[:200]
        raise StudyError(
            f"{shown_url(url)}: the study's database cannot be used ({reason}); finished trials "
            "are kept: give the same command again when it is back"
        ) from None


def _database_error(error: BaseException | None) -> BaseException | None:
    """The error of the database behind an error, the first in time."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    found = None
    while error is not None:
        if isinstance(error, StorageInternalError | SQLAlchemyError):
            found = error
        error = error.__cause__ or error.__context__
    return found


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Hide Optuna's warnings that heartbeats and callbacks are experimental."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def shown_url(url: str) -> str:
    """Return a database's URL without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.split("@")[-1]
