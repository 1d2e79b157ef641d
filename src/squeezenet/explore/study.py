"""A study in Optuna's storage: its trials are queued, taken, finished and taken up again.

Every trial of a sweep is one of the queue (``Study.enqueue``), so no two workers have the same one;
those of a search are proposed one by one. A trial whose worker has gone is queued again
(``Study.recover``): at once where its machine can tell, after ``storage.GRACE_SECONDS`` without a
heartbeat elsewhere. What is asked of a trial, its worker and what was measured are attributes of
Optuna's trial.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from squeezenet.arch.serialization import from_plain, to_plain
from squeezenet.errors import (
    FolderInUseError,
    InterruptedRunError,
    SqueezeNetError,
    StudyError,
    one_line,
)
from squeezenet.explore.plan import TrialPlan
from squeezenet.explore.presence import Worker
from squeezenet.explore.storage import (
    GRACE_SECONDS,
    open_storage,
    quiet_optuna,
    shown_url,
    storage_errors,
)
from squeezenet.report.study.results import TrialMeasures, TrialRow, TrialState

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial, Trial

_SETTINGS, _EXHAUSTED = "settings", "exhausted"
_PLAN, _WORKER, _MEASURES, _ERROR, _DEATHS = (
    "plan", "worker", "measures", "error", "deaths",
)  # fmt: skip
Direction = Literal["maximize", "minimize"]
_MIN_IMPORTANCE = 16
"""Trials below which shares of importance are chance."""
MAX_REFUSALS = 500
"""So many proposals in a row that cannot be trained end a search."""
MAX_DEATHS = 3
"""A trial whose worker has been killed so often, while others lived, has failed."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many trials are in each state; those that a search gave up are done."""

    done: int
    failed: int
    running: int
    waiting: int

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do or to wait for."""
        return not self.running and not self.waiting


class Proposer(Protocol):
    """Chooses the networks of a search, of which there are ``num_trials``."""

    num_trials: int

    def propose(self, trial: Trial, number: int) -> TrialPlan:
        """Return the plan of trial ``number``, with values that Optuna's trial suggests.

        Raises:
            RefusedError: the network is not worth a training.
        """

    def values(self, measures: TrialMeasures) -> tuple[float, ...]:
        """Return the values that the search compares networks by."""

    def constraints(self, measures: TrialMeasures) -> dict[str, float]:
        """Return by how much each budget is exceeded; at most 0 where it is kept."""


class RefusedError(Exception):
    """A network that is not trained; ``constraints`` that are above 0 say why."""

    def __init__(self, constraints: dict[str, float]) -> None:
        broken = [name.replace("_", " ") for name, value in constraints.items() if value > 0]
        super().__init__(f"the budget of {' and '.join(broken)}")
        self.constraints = constraints


class Study:
    """A study of a storage: ``create`` or ``load`` it, and use it as a context manager."""

    def __init__(self, url: str, storage: RDBStorage, study: optuna.Study) -> None:
        self.url = url
        self._storage = storage
        self._study = study
        self._refusals = 0

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the connections to the database, which may be gone."""
        from sqlalchemy.exc import SQLAlchemyError

        with contextlib.suppress(SQLAlchemyError):
            self._storage.remove_session()
        self._storage.engine.dispose()

    @staticmethod
    def create(
        url: str,
        name: str,
        settings: dict[str, Any],
        *,
        known: bool,
        directions: Sequence[Direction] = ("maximize",),
    ) -> Study:
        """Make the study, or load it if it is ``known`` to be ours.

        ``directions``: of the values that trials are compared by.

        Raises:
            StudyError: the database has it already and it is not ``known``, has other settings, or
                cannot be used.
        """
        import optuna

        with storage_errors(url), contextlib.ExitStack() as failed:
            storage = open_storage(url, _requeue_stale)
            failed.callback(storage.engine.dispose)
            try:
                study = optuna.create_study(
                    storage=storage,
                    study_name=name,
                    directions=list(directions),
                    load_if_exists=known,
                )
            except optuna.exceptions.DuplicatedStudyError:
                raise StudyError(
                    f"{shown_url(url)}: has a study {name!r} already; add --join to work on it, or "
                    "choose another --out"
                ) from None
            if _SETTINGS not in study.user_attrs:
                study.set_user_attr(_SETTINGS, settings)
            _require_settings(url, name, study.user_attrs[_SETTINGS], settings)
            failed.pop_all()
        return Study(url, storage, study)

    @staticmethod
    def load(
        url: str,
        name: str,
        settings: dict[str, Any] | None = None,
        sampler: optuna.samplers.BaseSampler | None = None,
    ) -> Study:
        """Load a study that another process has made, with these settings if they are given.

        ``sampler`` proposes the networks of a search.

        Raises:
            StudyError: there is none, it has other settings, or the database cannot be used.
        """
        import optuna

        with storage_errors(url), contextlib.ExitStack() as failed:
            storage = open_storage(url, _requeue_stale)
            failed.callback(storage.engine.dispose)
            try:
                study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
            except KeyError:
                raise StudyError(
                    f"{shown_url(url)}: has no study {name!r}; the first process starts it without "
                    "--join, and the name is that of --out"
                ) from None
            if settings is not None:
                _require_settings(url, name, study.user_attrs.get(_SETTINGS, {}), settings)
            failed.pop_all()
        return Study(url, storage, study)

    def enqueue(self, wanted: Sequence[TrialPlan]) -> int:
        """Queue the trials that are neither done nor queued nor running; return their number.

        Those that failed are tried again. Only the process that owns the study may do this.
        """
        with storage_errors(self.url):
            known = {
                _plan_name(trial)
                for trial in self._study.get_trials(deepcopy=False)
                if trial.state.name in ("COMPLETE", "RUNNING", "WAITING")
            }
            missing = [plan for plan in wanted if plan.name not in known]
            for plan in missing:
                self._study.enqueue_trial({}, user_attrs={_PLAN: plan.to_plain()})
        return len(missing)

    def run_next(
        self,
        worker: Worker,
        run: Callable[[TrialPlan], TrialMeasures],
        proposer: Proposer | None = None,
    ) -> bool:
        """Take a trial of the queue and run it; return False if there is none to take.

        With a ``proposer`` the queue has only what was given back; otherwise a new trial is
        proposed, until there are as many as it wants. An error of ``run`` is the trial's failure.

        Raises:
            InterruptedRunError: ``run`` was stopped; the trial is in the queue again.
            FolderInUseError: a worker that was thought to be gone still has it; likewise.
            StudyError: the database cannot be used.
        """
        import optuna

        with storage_errors(self.url):
            wants_more = (
                proposer is not None
                and self._num_asked() < proposer.num_trials
                and self.exhausted is None
            )
            if not self._trials_in("WAITING") and not wants_more:
                return False
        given_back: list[tuple[FrozenTrial, SqueezeNetError]] = []
        taken: list[int] = []

        def objective(trial: Trial) -> float | tuple[float, ...]:
            taken.append(trial.number)
            trial.set_user_attr(_WORKER, to_plain(worker))
            plan = self._plan(trial, proposer)
            if plan is None:
                raise optuna.TrialPruned
            try:
                measures = run(plan)
            except (InterruptedRunError, FolderInUseError) as error:
                given_back.append((self._study.get_trials(deepcopy=False)[trial.number], error))
                raise
            except Exception as error:
                known = isinstance(error, SqueezeNetError)
                text = str(error) if known else f"{type(error).__name__}: {error}"
                trial.set_user_attr(_ERROR, one_line(text))
                raise
            trial.set_user_attr(_MEASURES, to_plain(measures))
            if proposer is None:
                return measures.top1
            for name, value in proposer.constraints(measures).items():
                trial.set_constraint(name, value)
            return proposer.values(measures)

        with storage_errors(self.url), quiet_optuna():
            try:
                self._study.optimize(objective, n_trials=1, catch=(Exception,))
            except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
                trials = self._study.get_trials(deepcopy=False)
                if not taken or not trials[taken[0]].state.is_finished():
                    raise
                # It had no heartbeat for too long: another process has queued it again.
                given_back.clear()
            for trial, _ in given_back:
                _requeue(self._study, trial)
        for _, error in given_back:
            raise error
        return True

    def _plan(self, trial: Trial, proposer: Proposer | None) -> TrialPlan | None:
        """The plan of a trial of the queue, or of a new one; None if the trial is not needed."""
        plan = trial.user_attrs.get(_PLAN)
        if proposer is None:
            # Without a plan another worker was faster, and Optuna made a new trial.
            return None if plan is None else TrialPlan.from_plain(plan)
        if plan is not None:
            known = TrialPlan.from_plain(plan)
            with contextlib.suppress(RefusedError):
                proposer.propose(trial, trial.number)  # gives the trial its parameters again
            return known
        try:
            proposed = proposer.propose(trial, trial.number)
        except RefusedError as refused:
            for name, value in refused.constraints.items():
                trial.set_constraint(name, value)
            self._count_refusal(f"over {refused}")
            return None
        if self._num_asked() >= proposer.num_trials:
            return None
        if self._is_known(proposed):
            self._count_refusal("of networks that were trained already")
            return None
        trial.set_user_attr(_PLAN, proposed.to_plain())
        # Two workers that propose the same network at the same time both see it here.
        if self._is_known(proposed, but=trial.number):
            return None
        self._refusals = 0
        return proposed

    def _count_refusal(self, why: str) -> None:
        """Give a search up whose proposals are all refused; ``why`` says so of the last one."""
        self._refusals += 1
        if self._refusals >= MAX_REFUSALS:
            self._study.set_user_attr(
                _EXHAUSTED, f"{MAX_REFUSALS} proposals in a row, the last {why}"
            )

    @property
    def exhausted(self) -> str | None:
        """Why a search was given up before it had its number of trials; None if it was not."""
        with storage_errors(self.url):
            found = self._study.user_attrs.get(_EXHAUSTED)
        return found or None

    def retry(self) -> None:
        """Let a search go on that was given up, and queue its failed trials again."""
        with storage_errors(self.url):
            if self._study.user_attrs.get(_EXHAUSTED):
                self._study.set_user_attr(_EXHAUSTED, "")
            for trial in self._newest().values():
                if trial.state.name == "FAIL":
                    _requeue(self._study, trial)

    def _is_known(self, plan: TrialPlan, *, but: int | None = None) -> bool:
        """Whether another trial has the same network."""
        return any(
            trial.number != but
            and not _is_unused(trial)
            and _PLAN in trial.user_attrs
            and TrialPlan.from_plain(trial.user_attrs[_PLAN]).has_network_of(plan)
            for trial in self._study.get_trials(deepcopy=False)
        )

    def _num_asked(self) -> int:
        """The number of trials that were asked for, each once."""
        trials = self._study.get_trials(deepcopy=False)
        return len({_plan_name(t) for t in trials if _PLAN in t.user_attrs and not _is_unused(t)})

    def recover(
        self, is_gone: Callable[[Worker], bool], *, died: bool = False, owns: bool = True
    ) -> None:
        """Queue trials again whose worker has gone.

        ``owns``: this is the process that owns the study, and alone may queue what others could
        not give back any more. ``is_gone`` says so of workers of this machine. ``died``: they ended
        by themselves, as by the system's lack of memory; after ``MAX_DEATHS`` such ends the trial
        has failed.
        """
        import optuna

        with storage_errors(self.url), quiet_optuna():
            optuna.storages.fail_stale_trials(self._study)
            for trial in self._trials_in("RUNNING"):
                worker = _worker(trial)
                if worker is None:
                    # Killed between taking it and saying so: milliseconds.
                    lost = _age(trial.datetime_start) > GRACE_SECONDS
                else:
                    lost = is_gone(worker)
                if lost and self._fail(trial) and trial.user_attrs.get(_PLAN) is not None:
                    self._take_up_again(trial, died=died and worker is not None)
            for trial in self._newest().values() if owns else ():
                # Whoever gave it back was killed before it could queue it.
                if _rank(trial) == _GIVEN_BACK and _age(trial.datetime_complete) > GRACE_SECONDS:
                    _requeue(self._study, trial)

    def _newest(self) -> dict[str, FrozenTrial]:
        """By its plan's name, Optuna's trial that stands for it."""
        newest: dict[str, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if _PLAN not in trial.user_attrs or _is_unused(trial):
                continue
            name = TrialPlan.from_plain(trial.user_attrs[_PLAN]).name
            if name not in newest or _rank(trial) <= _rank(newest[name]):
                newest[name] = trial
        return newest

    def _take_up_again(self, trial: FrozenTrial, *, died: bool) -> None:
        attributes = trial.user_attrs
        deaths = attributes.get(_DEATHS, 0) + died
        if deaths < MAX_DEATHS:
            _requeue(self._study, trial, {_DEATHS: deaths})
            return
        self._study.add_trial(
            _trial(
                "FAIL",
                {
                    _PLAN: attributes[_PLAN],
                    _ERROR: f"its process was killed {deaths} times; it may need more memory than "
                    "there is: fewer --jobs leave more",
                },
            )
        )

    def counts(self) -> Counts:
        """Count the trials that were asked for, each once, by state."""
        rows = self.rows()
        states: list[TrialState] = [row.state for row in rows]
        return Counts(
            done=states.count("done") + states.count("stopped"),
            failed=states.count("failed"),
            running=states.count("running"),
            waiting=states.count("waiting"),
        )

    def rows(self) -> list[TrialRow]:
        """Return the trials that were asked for, each once, in the order of the queue."""
        with storage_errors(self.url):
            trials = self._study.get_trials(deepcopy=False)
        found: dict[str, TrialRow] = {}
        ranks: dict[str, int] = {}
        for trial in trials:
            if _PLAN not in trial.user_attrs or _is_unused(trial):
                continue
            row, rank = _row(trial), _rank(trial)
            if rank <= ranks.get(row.name, rank):
                found[row.name], ranks[row.name] = row, rank
        return list(found.values())

    def importances(self) -> tuple[tuple[str, float], ...]:
        """Return the share of each parameter in the variance of accuracy (fANOVA), largest first.

        Source: Hutter, Hoos, Leyton-Brown, ICML 2014. Empty with fewer than ``_MIN_IMPORTANCE``
        finished trials.
        """
        import optuna

        with storage_errors(self.url):
            if len(self._trials_in("COMPLETE")) < _MIN_IMPORTANCE:
                return ()
            try:
                found = optuna.importance.get_param_importances(
                    self._study,
                    evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
                    target=lambda trial: trial.values[0],
                )
            except RuntimeError:  # all are equally accurate
                return ()
        return tuple(found.items())

    def _trials_in(self, state: str) -> list[FrozenTrial]:
        from optuna.trial import TrialState as State

        return self._study.get_trials(deepcopy=False, states=(State[state],))

    def _fail(self, trial: FrozenTrial) -> bool:
        """Mark a running trial as failed; return whether it was still running."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState as State

        try:
            self._study.tell(trial.number, state=State.FAIL)
        except (ValueError, UpdateFinishedTrialError):  # another process was faster
            return False
        return True


_GIVEN_BACK = 4
"""Rank of a trial that was given back, or whose worker has gone."""


def _age(when: datetime.datetime | None) -> float:
    """Seconds since a time that Optuna has noted, on whichever machine: its clock may differ."""
    now = datetime.datetime.now()
    return abs((now - (when or now)).total_seconds())


def _is_unused(trial: FrozenTrial) -> bool:
    """Whether a trial was found to be that of another worker before it began."""
    return trial.state.name == "PRUNED"


def _rank(trial: FrozenTrial) -> int:
    """Of several of Optuna's trials for one plan, the row shows the lowest, and the latest such."""
    state = trial.state.name
    if state == "FAIL" and _ERROR not in trial.user_attrs:
        return _GIVEN_BACK
    return ("COMPLETE", "RUNNING", "WAITING", "FAIL").index(state)


def _row(trial: FrozenTrial) -> TrialRow:
    plan = TrialPlan.from_plain(trial.user_attrs[_PLAN])
    error = trial.user_attrs.get(_ERROR, "")
    states: dict[str, TrialState] = {
        "COMPLETE": "done",
        "RUNNING": "running",
        "WAITING": "waiting",
        # Without an error it was given back, and waits to be queued again.
        "FAIL": "failed" if error else "waiting",
    }
    state = states.get(trial.state.name, "waiting")
    measures = None
    if state == "done":
        measures = from_plain(TrialMeasures, trial.user_attrs.get(_MEASURES), plan.name)
        state = "stopped" if measures.stopped else state
    return TrialRow(
        name=plan.name,
        variant=plan.variant.name,
        label=plan.variant.label,
        x=plan.variant.x,
        seed=plan.seed,
        state=state,
        measures=measures,
        spec=plan.variant.spec,
        choices=tuple(trial.params.items()),
        error=error if state == "failed" else "",
    )


def _requeue_stale(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial again whose heartbeat has stopped."""
    if _PLAN in trial.user_attrs:
        _requeue(study, trial)


def _requeue(
    study: optuna.Study, trial: FrozenTrial, changes: dict[str, Any] | None = None
) -> None:
    """Queue a trial again, with the parameters and the plan that it had."""
    attributes = trial.user_attrs | (changes or {})
    kept = {key: attributes[key] for key in (_PLAN, _DEATHS) if key in attributes}
    params = trial.params or trial.system_attrs.get("fixed_params", {})
    study.enqueue_trial(params, user_attrs=kept)


def _trial(state: str, attributes: dict[str, Any]) -> FrozenTrial:
    import optuna

    return optuna.trial.create_trial(state=optuna.trial.TrialState[state], user_attrs=attributes)


def _plan_name(trial: FrozenTrial) -> str | None:
    plan = trial.user_attrs.get(_PLAN)
    return None if plan is None else TrialPlan.from_plain(plan).name


def _worker(trial: FrozenTrial) -> Worker | None:
    found = trial.user_attrs.get(_WORKER)
    return None if found is None else from_plain(Worker, found, "worker")


def _require_settings(url: str, name: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    if found != wanted:
        raise StudyError(
            f"{shown_url(url)}: study {name!r} has {settings_difference(found, wanted)}; give the "
            "same command, or choose another --out"
        )


def settings_difference(found: dict[str, Any], wanted: dict[str, Any], path: str = "") -> str:
    """Return the first difference of two settings, as ``training.epochs 8, this one has 12``."""
    for key in dict.fromkeys([*wanted, *found]):
        a, b = found.get(key), wanted.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            return settings_difference(a, b, f"{path}{key}.")
        shown = [one_line(str(value), 60) for value in (a, b)]
        return f"{path}{key} {shown[0]}, this one has {shown[1]}"
    raise AssertionError("equal settings differ")
