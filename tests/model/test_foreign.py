"""Weights of others: under any key, with any prefix, in any file of torch or safetensors."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from squeezenet.arch.class_labels import ClassLabels
from squeezenet.arch.presets import preset
from squeezenet.errors import ClassCountError, MalformedError, WeightsError
from squeezenet.model.foreign import load_pth
from squeezenet.model.load import load_model
from squeezenet.model.network import build_module

State = dict[str, torch.Tensor]
NUM_CLASSES = 3
FIRST = "features.0.weight"


class Log:
    """A receiver of progress that keeps the messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)

    def task(self, title: str, *, total: int, unit: str, done: int = 0) -> Any:
        raise AssertionError("reading weights is no long task")


def network() -> nn.Module:
    torch.manual_seed(0)
    return build_module(preset("squeezenet1_1", num_classes=NUM_CLASSES, batch_norm=False))


@pytest.fixture(scope="module")
def state() -> State:
    return {key: tensor.detach().clone() for key, tensor in network().state_dict().items()}


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[object], Path]:
    """Write a file as torch does today, or did before 1.6."""

    def write(content: object) -> Path:
        path = tmp_path / "x.pth"
        torch.save(content, path, _use_new_zipfile_serialization=request.param)
        return path

    return write


def same_weights(path: Path, state: State, log: Log | None = None) -> None:
    model = load_model(path, progress=log)
    for key, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, state[key].float())


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "model.", "net.", "backbone.", "network.", "encoder."),
        *("student.", "module._orig_mod.", "_orig_mod.module.", "a.b.c.", "model.features_of."),
    ],
)
def test_prefixes(save: Callable[[object], Path], state: State, prefix: str) -> None:
    same_weights(save(prefixed(state, prefix)), state)


WRAPPERS = [
    *("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module"),
    *("ema", "model_ema", "state_dict_ema", "anything"),
]


@pytest.mark.parametrize("key", WRAPPERS)
def test_wrappers(save: Callable[[object], Path], state: State, key: str) -> None:
    log = Log()
    arguments = argparse.Namespace(lr=0.1)
    path = save({key: state, "optimizer": {"lr": 0.1}, "epoch": 3, "args": arguments})
    same_weights(path, state, log)
    assert log.lines == [
        f"{path}: read weights under {key!r}; not read: optimizer, epoch, args (argparse.Namespace)"
    ]


def test_nothing_is_said_of_a_bare_state_dict(save: Callable[[object], Path], state: State) -> None:
    log = Log()
    same_weights(save(state), state, log)
    same_weights(save({"n_averaged": torch.tensor(7), **prefixed(state, "module.")}), state, log)
    assert not log.lines


def test_checkpoints_of_libraries(save: Callable[[object], Path], state: State) -> None:
    ema = {key: tensor + 1 for key, tensor in state.items()}
    lightning = {
        "state_dict": prefixed(state, "model.") | {"criterion.weight": torch.ones(NUM_CLASSES)},
        "hyper_parameters": {"lr": 0.1, "path": Path("x")},
        "optimizer_states": [{"state": {0: {"momentum": torch.ones(3)}}}],
        "loops": defaultdict(list),
    }
    timm = {"state_dict": state, "state_dict_ema": ema, "args": argparse.Namespace()}
    torchvision = {"model_ema": {"n_averaged": torch.tensor(3), **prefixed(ema, "module.")}}
    torchvision |= {"model": state, "scaler": np.float64(2)}
    for content, said in (
        (lightning, "'state_dict.model'; not read: hyper_parameters, optimizer_states, loops"),
        (timm, "not read: args (argparse.Namespace); other weights are under 'state_dict_ema'"),
        (torchvision, "'model'; not read: scaler"),
    ):
        log = Log()
        same_weights(save(content), state, log)
        assert said in log.lines[0]


def test_data_parallel_inside_of_a_network(save: Callable[[object], Path], state: State) -> None:
    inside = {key.replace("features.", "features.module."): t for key, t in state.items()}
    same_weights(save(inside), state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda module: module,
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda module: {"model": module, "epoch": 3},
        lambda module: nn.ModuleDict({"backbone": module, "other": nn.Linear(2, 2)}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_whole_modules(
    save: Callable[[object], Path], state: State, wrap: Callable[[nn.Module], object]
) -> None:
    same_weights(save(wrap(network())), state)


def test_half_precision_and_parameters(save: Callable[[object], Path], state: State) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        half = {key: tensor.to(dtype) for key, tensor in state.items()}
        same_weights(save(half), half)
    same_weights(save({key: nn.Parameter(tensor) for key, tensor in state.items()}), state)


def test_views_of_one_storage(save: Callable[[object], Path], state: State) -> None:
    together = torch.cat([tensor.flatten() for tensor in state.values()])
    views, start = {}, 0
    for key, tensor in state.items():
        views[key] = together[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
    views[FIRST] = state[FIRST].permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    same_weights(save(views), state)


def test_counts_of_batch_normalisation_may_be_missing(tmp_path: Path) -> None:
    whole = build_module(preset("squeezenet1_1", num_classes=2, batch_norm=True)).state_dict()
    path = tmp_path / "x.pth"
    torch.save({k: t for k, t in whole.items() if not k.endswith("num_batches_tracked")}, path)
    assert load_model(path).record.spec.batch_norm
    torch.save({"module." + key: tensor for key, tensor in whole.items()}, path)
    same_weights(path, whole)


def test_weights_that_are_not_only_the_networks(tmp_path: Path, state: State) -> None:
    path = tmp_path / "x.pth"
    for extra in ("fc.weight", "features.13.weight"):
        torch.save(state | {extra: torch.ones(3)}, path)
        with pytest.raises(WeightsError, match=f"key {extra!r} is not part of squeezenet1_1"):
            load_model(path)
    torch.save({"model": {"conv.weight": torch.ones(3)}, "epoch": 1}, path)
    with pytest.raises(WeightsError, match="state_dict of another network"):
        load_model(path)
    torch.save({"epoch": 1}, path)
    with pytest.raises(WeightsError, match=r"no state_dict; save model\.state_dict\(\)"):
        load_model(path)


def test_incomplete_weights_before_complete_ones(tmp_path: Path, state: State) -> None:
    path = tmp_path / "x.pth"
    torch.save({"student": {FIRST: state[FIRST]}, "deep": {"net": state}}, path)
    same_weights(path, state)


@pytest.mark.parametrize("metadata", [{"format": "pt"}, None])
@pytest.mark.parametrize("prefix", ["", "model.", "module._orig_mod."])
def test_plain_safetensors(
    tmp_path: Path, state: State, metadata: dict[str, str] | None, prefix: str
) -> None:
    path = tmp_path / "x.safetensors"
    save_file(prefixed(state, prefix), path, metadata)
    same_weights(path, state)
    record = load_model(path).record
    torch.save(state, tmp_path / "x.pth")
    of_pth = load_model(tmp_path / "x.pth").record
    assert (record.spec, record.preprocessing) == (of_pth.spec, of_pth.preprocessing)
    assert record.class_names == ("class0", "class1", "class2")


@pytest.mark.parametrize(
    ("beside", "place"),
    [
        ({"classes": ["a", "b", "c"]}, "classes"),
        ({"class_names": ("a", "b", "c")}, "class_names"),
        ({"class_to_idx": {"c": 2, "a": 0, "b": 1}}, "class_to_idx"),
        ({"idx_to_class": {0: "a", 2: "c", 1: "b"}}, "idx_to_class"),
        ({"meta": {"CLASSES": ("a", "b", "c")}}, "meta.CLASSES"),
        ({"hyper_parameters": {"classes": ["a", "b", "c"]}}, "hyper_parameters.classes"),
        ({"args": argparse.Namespace(class_names=["a", "b", "c"])}, "args.class_names"),
    ],
)
def test_class_names_beside_the_weights(
    tmp_path: Path, state: State, beside: dict[str, object], place: str
) -> None:
    path, log = tmp_path / "x.pth", Log()
    torch.save({"model": state, **beside}, path)
    assert load_model(path, progress=log).record.class_names == ("a", "b", "c")
    assert f"class names from {place!r}" in log.lines[0]
    given = ClassLabels(names=("x", "y", "z"))
    assert load_model(path, labels=given).record.class_names == given.names


def test_class_names_that_do_not_fit(tmp_path: Path, state: State) -> None:
    path, log = tmp_path / "x.pth", Log()
    torch.save({"model": state, "classes": ["a", "b"]}, path)
    assert load_model(path, progress=log).record.class_names[0] == "class0"
    assert "class names were not used: classes: 2 class names, expected 3" in log.lines[0]
    with pytest.raises(ClassCountError, match="has 3 outputs, --classes names 2"):
        load_model(path, labels=ClassLabels(names=("a", "b")))


def test_real_weights_in_half_precision(shared: Path) -> None:
    model = load_model(shared / "squeezenet1_1-fp16.pth")
    assert model.record.class_names[0] == "tench"
    expected = torch.load(shared / "squeezenet1_1-fp16.pth", weights_only=True)
    for key, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, expected[key].float())


def test_files_of_torch_that_are_no_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1), path)
    with pytest.raises(WeightsError, match="torch.optim.sgd.SGD.*state_dict"):
        load_pth(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(MalformedError, match=r"an archive that is cut short.*state_dict\(\)"):
        load_pth(path)


def doubled() -> tuple[object, ...]:
    """Return a tuple that takes ages to write out, hash or search."""
    value: tuple[object, ...] = ()
    for _ in range(60):
        value = (value, value)
    return value


@pytest.mark.parametrize("key", ["classes", "class_to_idx", "args", "model_ema", "epoch"])
def test_values_that_take_ages_to_write_out(tmp_path: Path, state: State, key: str) -> None:
    path = tmp_path / "x.pth"
    for value in (doubled(), {"a": doubled()}, {"0": doubled()}, [doubled()] * 3):
        torch.save({"model": state, key: value}, path)
        assert load_model(path, progress=Log()).record.class_names[0] == "class0"
