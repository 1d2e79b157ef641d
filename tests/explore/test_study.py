"""Trials of a study: each is run once, whoever runs it and whatever dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from squeezenet.errors import InterruptedRunError, StudyError, UsageError
from squeezenet.explore.plan import TrialPlan
from squeezenet.explore.presence import Worker, is_gone, present
from squeezenet.explore.storage import sqlite_url
from squeezenet.explore.study import MAX_DEATHS, Counts, Study
from squeezenet.report.study.results import TrialMeasures
from tests.explore.claims import MEASURES
from tests.explore.conftest import start_claims

SETTINGS = {"sweep": "sr", "training": {"epochs": 8}}
WORKER = Worker(host="elsewhere", folder="study", name="1")


class Died(BaseException):
    """What nothing catches, as little as a kill."""


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    url = sqlite_url(tmp_path / "study.db")
    with Study.create(url, "study", SETTINGS, known=False) as study:
        yield study


def run_all(study: Study, worker: Worker = WORKER) -> list[str]:
    names: list[str] = []

    def run(plan: TrialPlan) -> TrialMeasures:
        names.append(plan.name)
        return MEASURES

    while study.run_next(worker, run):
        pass
    return names


def test_every_trial_runs_once_and_in_order(study: Study, some_plans: list[TrialPlan]) -> None:
    assert study.enqueue(some_plans) == 20
    assert study.enqueue(some_plans) == 0
    assert study.counts() == Counts(done=0, failed=0, running=0, waiting=20)
    assert run_all(study) == [plan.name for plan in some_plans]
    assert study.counts() == Counts(done=20, failed=0, running=0, waiting=0)
    assert study.enqueue(some_plans) == 0
    assert [row.measures for row in study.rows()] == [MEASURES] * 20


def test_several_processes_share_the_trials(
    tmp_path: Path, study: Study, some_plans: list[TrialPlan]
) -> None:
    study.enqueue(some_plans)
    log = tmp_path / "log"
    workers = start_claims(study.url, "study", tmp_path, log, processes=3)
    assert [worker.wait(60) for worker in workers] == [0] * 3
    assert Counter(log.read_text().split()) == Counter(plan.name for plan in some_plans)
    assert study.counts() == Counts(done=20, failed=0, running=0, waiting=0)


def test_a_trial_of_a_killed_process_runs_again(
    tmp_path: Path, study: Study, some_plans: list[TrialPlan]
) -> None:
    study.enqueue(some_plans[:2])
    log = tmp_path / "log"
    (worker,) = start_claims(study.url, "study", tmp_path, log, processes=1, seconds=60)
    while not study.counts().running:
        assert worker.poll() is None
    # It may be killed before it has said who it is.
    while not any(trial.user_attrs.get("worker") for trial in study._study.get_trials()):
        pass
    study.recover(lambda w: is_gone(w, tmp_path))
    assert study.counts().running == 1
    worker.kill()
    worker.wait()
    study.recover(lambda w: is_gone(w, tmp_path))
    assert study.counts() == Counts(done=0, failed=0, running=0, waiting=2)
    assert sorted(run_all(study)) == sorted(plan.name for plan in some_plans[:2])
    assert list((tmp_path / "workers").iterdir()) == []


def test_a_trial_whose_process_dies_again_and_again_has_failed(
    study: Study, some_plans: list[TrialPlan]
) -> None:
    study.enqueue(some_plans[:1])

    def die(plan: TrialPlan) -> TrialMeasures:
        raise Died

    for _ in range(MAX_DEATHS):
        assert study.counts().waiting == 1
        with pytest.raises(Died):
            study.run_next(WORKER, die)
        study.recover(lambda worker: True, died=True)
    (row,) = study.rows()
    assert row.state == "failed" and "killed 3 times" in row.error


def test_a_stopped_trial_is_in_the_queue_again(study: Study, some_plans: list[TrialPlan]) -> None:
    study.enqueue(some_plans[:1])

    def stop(plan: TrialPlan) -> TrialMeasures:
        raise InterruptedRunError("stopped", 15)

    with pytest.raises(InterruptedRunError):
        study.run_next(WORKER, stop)
    assert study.counts() == Counts(done=0, failed=0, running=0, waiting=1)
    assert run_all(study) == [some_plans[0].name]


def test_a_failure_is_told_and_tried_again(study: Study, some_plans: list[TrialPlan]) -> None:
    study.enqueue(some_plans[:2])

    def fail(plan: TrialPlan) -> TrialMeasures:
        raise MemoryError("no memory\nleft")

    assert study.run_next(WORKER, fail)
    assert run_all(study) == [some_plans[1].name]
    states = {row.name: (row.state, row.error) for row in study.rows()}
    assert states == {
        some_plans[0].name: ("failed", "MemoryError: no memory\\nleft"),
        some_plans[1].name: ("done", ""),
    }
    assert study.enqueue(some_plans[:2]) == 1
    assert run_all(study) == [some_plans[0].name]
    assert study.counts() == Counts(done=2, failed=0, running=0, waiting=0)


def test_a_study_with_other_settings_is_refused(study: Study) -> None:
    other = {"sweep": "sr", "training": {"epochs": 12}}
    message = "has training.epochs 8, this one has 12"
    with pytest.raises(StudyError, match=message):
        Study.create(study.url, "study", other, known=True)
    with pytest.raises(StudyError, match=message):
        Study.load(study.url, "study", other)
    with pytest.raises(StudyError, match="has a study 'study' already; add --join"):
        Study.create(study.url, "study", SETTINGS, known=False)
    with pytest.raises(StudyError, match="has no study 'mine'"):
        Study.load(study.url, "mine")


def test_a_database_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be used") as refused:
        Study.create(sqlite_url(tmp_path / "no" / "study.db"), "study", SETTINGS, known=False)
    assert "\n" not in str(refused.value)
    (tmp_path / "study.db").write_text("no database, but long enough to look at " * 50)
    with pytest.raises(StudyError, match="not a database"):
        Study.create(sqlite_url(tmp_path / "study.db"), "study", SETTINGS, known=False)


def test_a_worker_is_there_until_its_context_ends(tmp_path: Path) -> None:
    with present(tmp_path) as worker:
        assert not is_gone(worker, tmp_path)
        assert not is_gone(worker, tmp_path / "another")
    assert is_gone(worker, tmp_path)
    assert not is_gone(WORKER, tmp_path)


def test_a_trial_that_was_taken_back_while_it_ran_is_not_finished_twice(
    study: Study, some_plans: list[TrialPlan]
) -> None:
    study.enqueue(some_plans[:1])

    def slow(plan: TrialPlan) -> TrialMeasures:
        study.recover(lambda worker: True)  # as after a laptop's sleep
        return MEASURES

    assert study.run_next(WORKER, slow)
    assert study.counts() == Counts(done=0, failed=0, running=0, waiting=1)
    assert run_all(study) == [some_plans[0].name]
    assert study.counts() == Counts(done=1, failed=0, running=0, waiting=0)


@pytest.mark.parametrize("url", ["nonsense", "foo://x", "postgresql://host:port/x", "sqlite://"])
def test_what_is_no_url_of_a_shared_database(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL of a database that processes can share"):
        Study.create(url, "study", SETTINGS, known=False)


def test_a_file_system_without_locks_says_nothing_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squeezenet.folder_lock._try_lock", lambda descriptor: True)
    with present(tmp_path) as worker:
        assert not worker.has_lock
        assert not is_gone(worker, tmp_path)
