"""A search: what it proposes, refuses, gives up, and recommends."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezenet.arch.graph import build_graph
from squeezenet.arch.network_file import find_network, network_json, read_network
from squeezenet.arch.presets import squeezenet1_1, squeezenet_cifar
from squeezenet.client import Classifier
from squeezenet.codec.model_kinds import DEFAULT, DEFAULT_MODEL
from squeezenet.errors import SpecError, UnknownNameError, UsageError
from squeezenet.explore.budgets import Budgets
from squeezenet.explore.costs import Costs, measure_costs
from squeezenet.explore.early_stopping import MARGIN, is_hopeless
from squeezenet.explore.plan import TrialPlan
from squeezenet.explore.presence import Worker
from squeezenet.explore.search import (
    BYTES_OF_A_FILE,
    NetworkProposer,
    Search,
    best_within,
    front,
    predicted_bytes,
    sampler,
)
from squeezenet.explore.search_options import SearchOptions, define_search
from squeezenet.explore.space import Space, TrunkSpace
from squeezenet.explore.storage import sqlite_url
from squeezenet.explore.study import Study
from squeezenet.progress import SilentProgress
from squeezenet.report.study.results import TrialMeasures, TrialRow, TrialState
from squeezenet.train.plan import TrainOptions
from tests.cli.running import Capture, as_json, failure

SPACE = Space(input_sizes=(32,), input_channels=3, num_classes=10)
WORKER = Worker(host="elsewhere", folder="study", name="1")


class Draws:
    """Choices at random, as Optuna's trial makes them."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return low + step * int(self._rng.integers(0, (high - low) // step + 1))

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        return choices[int(self._rng.integers(len(choices)))]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None
    ) -> float:
        return low + (step or 0.1) * int(self._rng.integers(0, int((high - low) / (step or 0.1))))


def measured(top1: float, file_bytes: int, macs: int, **others: Any) -> TrialMeasures:
    known: dict[str, Any] = {
        "top5": 99.0, "images": 10, "parameters": 1000, "weight_bytes": 4000, "epochs": 8.0,
        "seconds": 1.0, "arena_bytes": 100,
    }  # fmt: skip
    return TrialMeasures(top1=top1, file_bytes=file_bytes, macs=macs, **known | others)


def row(name: str, measures: TrialMeasures, state: TrialState = "done") -> TrialRow:
    return TrialRow(
        name=name, variant=name, label=name, x=None, seed=0, state=state, measures=measures,
        spec=squeezenet_cifar(),
    )  # fmt: skip


@pytest.mark.parametrize("space", [SPACE, dataclasses.replace(SPACE, input_sizes=(96, 224))])
def test_every_network_of_the_space_runs_on_clients(space: Space) -> None:
    for seed in range(40):
        spec = space.choose(Draws(seed), "drawn")
        graph = build_graph(spec)
        assert all(f.e1x1 % 8 == f.e3x3 % 8 == f.s1x1 % 8 == 0 for f in spec.fires)
        assert len(spec.pools) - (spec.input_size[0] > 64) in (2, 3)
        assert graph.tensors[graph.operations[-2].target].height >= 2
    assert measure_costs(space.smallest()).arena_bytes > 0


@pytest.mark.parametrize(("size", "pools"), [(2, 0), (4, 1), (8, 2), (16, 3), (28, 3)])
def test_small_images_have_as_many_stages_as_pools_fit(size: int, pools: int) -> None:
    """A proposal that is no network is one of those after which a search gives up."""
    space = dataclasses.replace(SPACE, input_sizes=(size,))
    counts = set()
    for seed in range(40):
        spec = space.choose(Draws(seed), "drawn")
        build_graph(spec)  # as it is refused if its layers do not fit
        counts.add(len(spec.pools))
    assert max(counts) == pools
    build_graph(space.smallest())


def test_costs_are_those_of_the_real_file() -> None:
    costs = measure_costs(squeezenet_cifar(), latency=True)
    assert costs.arena_bytes == Classifier(DEFAULT, kernels="portable").arena_bytes
    assert costs.parameters == 675_114 and costs.macs == 69_476_352
    assert costs.latency_ms is not None and costs.latency_ms > 0


def test_the_front_is_what_no_other_network_beats() -> None:
    rows = [
        row("best", measured(90.0, 900, 90)),
        row("small", measured(80.0, 300, 90)),
        row("fast", measured(80.0, 900, 10)),
        row("worse", measured(79.0, 900, 90)),
        row("stopped", measured(99.0, 1, 1, stopped=True), "stopped"),
    ]
    assert [each.name for each in front(rows)] == ["best", "small", "fast"]


def test_the_best_is_within_all_budgets() -> None:
    rows = [
        row("large", measured(90.0, 900, 90)),
        row("small", measured(80.0, 300, 90)),
        row("smaller", measured(80.0, 200, 90)),
        row("slow", measured(85.0, 200, 900)),
    ]
    found = best_within(rows, Budgets(file_bytes=500, macs=100))
    assert found is not None and found.name == "smaller"
    assert best_within(rows, Budgets(arena_bytes=99)) is None
    unbounded = best_within(rows, Budgets())
    assert unbounded is not None and unbounded.name == "large"


def test_costs_with_a_budget_are_constraints_and_others_objectives() -> None:
    found = measured(90.0, 900, 90)

    def proposer(budgets: Budgets) -> NetworkProposer:
        search = Search(space=SPACE, budgets=budgets, num_trials=1, divergence=0.07)
        values = NetworkProposer(search, list).values(found)
        assert len(values) == len(search.directions) and search.directions[0] == "maximize"
        return NetworkProposer(search, list)

    free = proposer(Budgets(arena_bytes=200))
    assert free.values(found) == (90.0, 900, 90)
    assert free.constraints(found) == {"arena_bytes": -0.5}
    assert proposer(Budgets(file_bytes=600)).values(found) == (90.0, 90)
    bound = proposer(Budgets(file_bytes=600, macs=90))
    assert bound.values(found) == (90.0,)
    assert bound.constraints(found) == {"file_bytes": 0.5, "macs": 0.0}


def test_sizes_are_predicted_by_the_trials_so_far() -> None:
    costs = Costs(parameters=2000, weight_bytes=8000, macs=1, arena_bytes=1)
    rows = [row(str(b), measured(80.0, BYTES_OF_A_FILE + b, 1)) for b in (100, 150, 900)]
    assert predicted_bytes(costs, rows) == BYTES_OF_A_FILE + 300
    assert predicted_bytes(costs, ()) > BYTES_OF_A_FILE


def test_budgets_that_cannot_be_met() -> None:
    smallest = measure_costs(SPACE.smallest())
    with pytest.raises(UsageError, match=r"--max-macs 1,000: the smallest .* needs 808,960 mult"):
        Budgets(macs=1000).require_possible(smallest, 1000)
    with pytest.raises(UsageError, match="--max-file-bytes 900: .* needs about 1,000 bytes"):
        Budgets(file_bytes=900).require_possible(smallest, 1000)
    with pytest.raises(UsageError, match="--max-arena-bytes 0, expected above 0"):
        Budgets(arena_bytes=0)
    with pytest.raises(UsageError, match="--max-latency-ms nan, expected above 0"):
        Budgets(latency_ms=float("nan"))
    Budgets(macs=10**9, file_bytes=10**6).require_possible(smallest, 1000)


def test_hopeless_trainings_are_given_up() -> None:
    costs = Costs(parameters=1000, weight_bytes=4000, macs=100, arena_bytes=1)
    curve = (40.0, 50.0, 60.0, 70.0)
    ahead = [row("ahead", measured(70.0, 900, 100, curve=curve))]
    assert is_hopeless(3, 6, 60.0 - MARGIN, costs, ahead)
    assert not is_hopeless(3, 6, 60.1 - MARGIN, costs, ahead)
    assert not is_hopeless(3, 7, 0.0, costs, ahead)  # before half of the epochs
    assert not is_hopeless(3, 3, 0.0, costs, ahead)  # in the last one
    assert not is_hopeless(5, 6, 0.0, costs, ahead)  # the other's curve is shorter
    assert not is_hopeless(3, 6, 0.0, dataclasses.replace(costs, macs=99), ahead)
    assert not is_hopeless(3, 6, 0.0, dataclasses.replace(costs, parameters=999), ahead)
    gave_up = [row("gave up", measured(70.0, 900, 100, curve=curve, stopped=True), "stopped")]
    assert not is_hopeless(3, 6, 0.0, costs, gave_up)


def test_nothing_over_a_budget_is_trained_and_nothing_twice(tmp_path: Path) -> None:
    search = Search(space=SPACE, budgets=Budgets(macs=20_000_000), num_trials=20, divergence=0.07)
    url = sqlite_url(tmp_path / "study.db")
    trained: list[TrialPlan] = []

    def run(plan: TrialPlan) -> TrialMeasures:
        trained.append(plan)
        costs = measure_costs(plan.variant.spec)
        return measured(costs.parameters**0.2, 700 + costs.parameters // 5, costs.macs)

    with Study.create(url, "study", {}, known=False, directions=search.directions):
        pass
    with Study.load(url, "study", sampler=sampler(seed=0)) as study:
        proposer = NetworkProposer(search, study.rows)
        while study.run_next(WORKER, run, proposer):
            pass
        assert study.counts().done == len(trained) == 20
        rows = study.rows()
        shares = dict(study.importances())
    assert all(measure_costs(plan.variant.spec).macs <= 20_000_000 for plan in trained)
    assert not any(a.has_network_of(b) for a in trained for b in trained if a is not b)
    assert [row.name for row in rows] == [plan.name for plan in trained]
    assert {"stem", "modules3", "expand3", "bypass"} <= {name for name, _ in rows[0].choices}
    assert sum(shares.values()) == pytest.approx(1)


def test_a_search_from_data_to_a_network_in_full(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "search"
    words = [
        "explore", "search", "digits", "--out", out, "--trials", 1, "--epochs", 1,
        "--train-images", 200, "--max-macs", 600_000, "--jobs", 2,
    ]  # fmt: skip
    found = as_json(capsys, *words)
    searched: Any = found["search"]
    assert searched["best"] in searched["front"]
    finalist = searched["finalists"][0]
    assert finalist["name"] == searched["best"]
    file = out / "finalists" / f"{finalist['name']}.sqz"
    assert file.stat().st_size == finalist["file_bytes"]
    trials: Any = found["trials"]
    assert [trial["state"] for trial in trials] == ["done"]
    assert trials[0]["measures"]["macs"] <= 600_000
    assert f"--arch {out / 'networks' / searched['best']}.json" in searched["train_best"]
    network = read_network(out / "networks" / f"{searched['best']}.json")
    assert network.num_classes == 10
    page = (out / "report" / "study.html").read_text()
    assert "Finalists, compressed" in page
    again = as_json(capsys, *words)
    assert again["search"] == searched


def test_options_of_the_other_kind_are_refused(tmp_path: Path, capsys: Capture) -> None:
    out = ["--out", tmp_path / "study"]
    line = failure(capsys, 2, "explore", "search", "digits", *out, "--values", "1")
    assert "--values is not for search" in line
    line = failure(capsys, 2, "explore", "sr", "digits", *out, "--max-macs", "1000000")
    assert "--max-macs is not for sr" in line
    line = failure(capsys, 2, "explore", "search", "digits", *out, "--trials", "0")
    assert "--trials 0, expected 1 to 100000" in line
    line = failure(capsys, 2, "explore", "search", "digits", *out, "--max-arena-bytes", "100")
    assert "the smallest network of the search needs 1,220 bytes of arena" in line


def test_a_network_file(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "network.json"
    file.write_text(network_json(squeezenet_cifar()))
    assert find_network(str(file)) == squeezenet_cifar()
    assert as_json(capsys, "info", file)["parameters"] == 675_114
    file.write_text(json.dumps(as_json(capsys, "info", "squeezenet_tiny")))
    assert find_network(str(file)) == find_network("squeezenet_tiny")
    with pytest.raises(UnknownNameError, match="no such file"):
        find_network(str(tmp_path / "other.json"))
    with pytest.raises(UnknownNameError, match="unknown architecture 'resnet'"):
        find_network("resnet")
    for text in ("", "[]", "{}", '{"spec": 1}', '{"spec": {"family": "resnet"}}', "[" * 100_000):
        file.write_text(text)
        with pytest.raises(SpecError, match=r"network\.json: "):
            find_network(str(file))


def test_a_search_that_finds_nothing_within_its_budgets_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squeezenet.explore.study.MAX_REFUSALS", 5)
    search = Search(space=SPACE, budgets=Budgets(macs=808_960), num_trials=3, divergence=0.07)
    url = sqlite_url(tmp_path / "study.db")
    with Study.create(url, "study", {}, known=False, directions=search.directions):
        pass

    def run(plan: TrialPlan) -> TrialMeasures:
        raise AssertionError("nothing fits")

    with Study.load(url, "study", sampler=sampler(seed=0)) as study:
        proposer = NetworkProposer(search, study.rows)
        while study.run_next(WORKER, run, proposer):
            pass
        assert study.exhausted == "5 proposals in a row, the last over the budget of macs"
        assert study.counts().is_over
        study.retry()
        assert study.exhausted is None


def test_a_failed_trial_of_a_search_is_tried_again(tmp_path: Path) -> None:
    search = Search(space=SPACE, budgets=Budgets(), num_trials=1, divergence=0.07)
    url = sqlite_url(tmp_path / "study.db")
    with Study.create(url, "study", {}, known=False, directions=search.directions):
        pass
    names = []

    def run(plan: TrialPlan) -> TrialMeasures:
        names.append(plan.name)
        if len(names) == 1:
            raise MemoryError("once")
        return measured(80.0, 900, 100)

    with Study.load(url, "study", sampler=sampler(seed=0)) as study:
        proposer = NetworkProposer(search, study.rows)
        assert study.run_next(WORKER, run, proposer)
        assert not study.run_next(WORKER, run, proposer)
        study.retry()
        assert study.run_next(WORKER, run, proposer)
        assert not study.run_next(WORKER, run, proposer)
        (found,) = study.rows()
    assert names == [found.name] * 2 and found.state == "done" and found.choices


def test_networks_of_a_trunk_begin_as_the_pretrained_one() -> None:
    whole = squeezenet1_1()
    space = TrunkSpace(pretrained=whole, input_sizes=(96, 224), num_classes=8)
    lengths = set()
    for seed in range(40):
        spec = space.choose(Draws(seed), "drawn")
        taken = 0
        ours, theirs = build_graph(spec).operations, build_graph(whole).operations
        for a, b in zip(ours, theirs, strict=False):
            if a != b:
                break
            taken += 1
        lengths.add(taken)
        assert taken >= 5 and spec.num_classes == 8  # the stem, its pool, and a module at least
        assert spec.fires[0] == whole.fires[0] and len(spec.fires) <= len(whole.fires) + 2
    assert len(lengths) > 5
    assert len(space.smallest().fires) == 1 and space.smallest().input_size == (96, 96)


def test_a_search_from_a_pretrained_model(tmp_path: Path, capsys: Capture) -> None:
    """The best network's command trains it from the same weights."""
    run, out = tmp_path / "run", tmp_path / "search"
    as_json(capsys, "train", "digits", "--out", run, "--epochs", 1, "--no-batch-norm")
    words = [
        "explore", "search", "digits", "--out", out, "--from", run, "--trials", 2, "--epochs", 1,
        "--train-images", 200, "--jobs", 1,
    ]  # fmt: skip
    found = as_json(capsys, *words)
    searched: Any = found["search"]
    assert f"--from {run}" in searched["train_best"]
    words_of_best = searched["train_best"].split()[1:]
    words_of_best[words_of_best.index("--out") + 1] = str(tmp_path / "best")
    trained = as_json(capsys, *words_of_best, "--epochs", 1)
    assert trained["from"] == str(run)
    other = ["explore", "search", "digits", "--out", tmp_path / "y", "--from", tmp_path / "none"]
    assert "none: no such file" in failure(capsys, 2, *other)


def test_the_smallest_network_of_a_trunk() -> None:
    """With many classes, a narrow module before the head is smaller than a wide trunk alone."""
    for num_classes, modules in ((8, 1), (1000, 2)):
        space = TrunkSpace(
            pretrained=squeezenet1_1(), input_sizes=(96, 224), num_classes=num_classes
        )
        smallest = space.smallest()
        assert len(smallest.fires) == modules and smallest.input_size == (96, 96)
        least = measure_costs(smallest)
        for seed in range(30):
            assert measure_costs(space.choose(Draws(seed), "drawn")).parameters >= least.parameters


def test_a_search_is_bound_to_the_weights_that_it_starts_from(tmp_path: Path) -> None:
    """Not to where they are; the word default is a model too."""
    copy = tmp_path / "copy.sqz"
    copy.write_bytes(DEFAULT_MODEL.read_bytes())
    starts = (DEFAULT_MODEL, copy, str(copy))
    settings = [
        define_search(
            "digits", "out", SearchOptions(training=TrainOptions(start=start)), SilentProgress()
        ).settings
        for start in starts
    ]
    assert settings[0] == settings[1] == settings[2]
    assert json.loads(json.dumps(settings[0]))["start"]
    with pytest.raises(UsageError, match="--divergence 5, expected 0.0001 to 1"):
        SearchOptions(divergence=5)
