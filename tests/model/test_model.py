"""Modules, weights in and out, folding, heads."""

from __future__ import annotations

import dataclasses
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from squeezenet.arch.presets import caffe_squeezenet1_0, preset
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import AlexNetSpec, SqueezeNetSpec
from squeezenet.codec import container
from squeezenet.errors import (
    ChecksumError,
    LossyConversionError,
    MalformedError,
    SqueezeNetError,
    TruncatedError,
    UnknownFormatError,
    WeightsError,
)
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.foreign import load_pth
from squeezenet.model.init import initialise
from squeezenet.model.load import from_compressed, load_model, to_compressed
from squeezenet.model.loaded import LoadedModel, from_state, needs_new_head, with_new_head
from squeezenet.model.network import SqueezeNet, build_module
from squeezenet.model.safetensors_file import load_safetensors, save_safetensors
from tests.conftest import random_model, record_of


def tiny_model(seed: int = 0) -> LoadedModel:
    record = record_of(preset("squeezenet_tiny"))
    module = build_module(record.spec)
    initialise(module, record.spec, "he", seed)
    return LoadedModel(record=record, module=module)


def torchvision_state(name: str, num_classes: int = 12) -> dict[str, torch.Tensor]:
    module = build_module(preset(name, num_classes=num_classes))
    return {key: value.clone() for key, value in module.state_dict().items()}


@pytest.mark.parametrize("name", ["squeezenet1_1", "caffe"])
def test_training_pools_before_a_large_last_convolution(name: str) -> None:
    """Logits and gradients are those of the written order, up to rounding; evaluation keeps it."""
    spec = dataclasses.replace(
        caffe_squeezenet1_0() if name == "caffe" else preset("squeezenet1_1"), input_size=(64, 64)
    )
    module = build_module(spec)
    assert isinstance(module, SqueezeNet) and module.trains_pooled == (name != "caffe")
    assert not build_module(dataclasses.replace(spec, num_classes=99)).trains_pooled
    initialise(module, spec, "he", 0)
    x_NCHW = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def run(pooled: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
        module.trains_pooled = pooled
        module.zero_grad()
        torch.manual_seed(0)  # of dropout
        logits_NK = module(x_NCHW)
        nn.functional.cross_entropy(logits_NK, torch.tensor([3, 999])).backward()
        return logits_NK.detach(), [value.grad.clone() for value in module.parameters()]

    module.train()
    (logits, grads), (written_logits, written_grads) = run(module.trains_pooled), run(False)
    torch.testing.assert_close(logits, written_logits, rtol=1e-4, atol=1e-5)
    for grad, written in zip(grads, written_grads, strict=True):
        torch.testing.assert_close(grad, written, rtol=1e-3, atol=1e-5)
    module.eval()
    module.trains_pooled = name != "caffe"
    with torch.no_grad():
        expected = torch.flatten(module.classifier(module.features(x_NCHW)), 1)
        assert torch.equal(module(x_NCHW), expected)


def test_init_is_seeded_and_scaled() -> None:
    spec = preset("squeezenet1_1", num_classes=10)
    module = build_module(spec)
    initialise(module, spec, "he", 3)
    first = {key: value.clone() for key, value in module.state_dict().items()}
    weight = first["features.12.expand3x3.weight"]
    assert float(weight.std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert float(first["classifier.1.weight"].std()) == pytest.approx(0.01, rel=0.1)
    assert not first["classifier.1.bias"].any()
    initialise(module, spec, "he", 3)
    assert all(torch.equal(first[key], value) for key, value in module.state_dict().items())
    initialise(module, spec, "xavier", 3)
    bound = (3 / (64 * 9)) ** 0.5
    weight = module.state_dict()["features.12.expand3x3.weight"]
    assert 0.98 * bound < float(weight.abs().max()) <= bound


def small_alexnet() -> LoadedModel:
    spec = preset("alexnet_cifar")
    assert isinstance(spec, AlexNetSpec)
    convs = tuple(dataclasses.replace(c, out_channels=c.out_channels // 16) for c in spec.convs)
    spec = dataclasses.replace(
        spec, convs=convs, hidden=(24, 20), input_size=(8, 8), input_channels=1, dropout=0.0,
        pools=spec.pools[:1],
    )  # fmt: skip
    return LoadedModel(record=record_of(spec), module=build_module(spec))


@pytest.mark.parametrize("make", [lambda: tiny_model(), small_alexnet])
def test_folding_keeps_the_logits(make: Callable[[], LoadedModel]) -> None:
    model = make()
    with torch.no_grad():  # statistics and gains as after training
        for part in model.module.modules():
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None and part.running_var is not None
                part.running_mean.normal_(0, 0.5)
                part.running_var.uniform_(0.2, 3)
                part.weight.uniform_(-1, 2)
                part.bias.normal_()
    folded = fold_batch_norm(model)
    x = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(folded.logits(x), model.logits(x), rtol=1e-3, atol=1e-5)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.module.modules())
    assert fold_batch_norm(folded) is folded


def test_safetensors_round_trip(tmp_path: Path) -> None:
    model = tiny_model()
    for name in ("a", "b"):
        save_safetensors(tmp_path / name, model.record, model.module.state_dict())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = load_model(tmp_path / "a")
    assert again.record == model.record
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[key])


def test_damaged_safetensors(tmp_path: Path) -> None:
    model = tiny_model()
    path = tmp_path / "x.safetensors"
    save_safetensors(path, model.record, model.module.state_dict())
    data = path.read_bytes()
    for length in (9, 200, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises((TruncatedError, UnknownFormatError), match=r"x\.safetensors"):
            load_safetensors(path)
    path.write_bytes(data.replace(b"squeezenet_tiny", b"squeezenet_tinx"))
    with pytest.raises(ChecksumError, match=r"x\.safetensors: its SHA-256.*copy it again"):
        load_safetensors(path)
    path.write_bytes(data.replace(b'"squeezenet":', b'"squeezenes":'))
    with pytest.raises(ChecksumError, match="its metadata has been damaged"):
        load_safetensors(path)


def test_safetensors_of_before_have_no_checksum(tmp_path: Path) -> None:
    model, path = tiny_model(), tmp_path / "x.safetensors"
    text = model.record.to_json()
    path.write_bytes(save(dict(model.module.state_dict()), {"squeezenet": text}))
    assert load_model(path).record == model.record
    text = text.replace('"batch_norm":true', '"batch_norm":null')
    path.write_bytes(save(dict(model.module.state_dict()), {"squeezenet": text}))
    with pytest.raises(MalformedError, match="batch_norm: found null"):
        load_safetensors(path)


def test_every_flipped_bit_of_safetensors_is_an_error(tmp_path: Path) -> None:
    """200 bits anywhere, and 200 of the header, drawn by seed 0."""
    model, path = tiny_model(), tmp_path / "x.safetensors"
    save_safetensors(path, model.record, model.module.state_dict())
    data = path.read_bytes()
    draw = random.Random(0)
    header_bytes = 8 + int.from_bytes(data[:8], "little")
    places = [draw.randrange(end) for end in (len(data), header_bytes) for _ in range(200)]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(SqueezeNetError, match=r"x\.safetensors"):
            load_model(path)


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_foreign(tmp_path: Path, name: str, wrapped: bool) -> None:
    state = torchvision_state(name)
    saved: object = state
    if wrapped:
        saved = {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}
    path = tmp_path / "x.pth"
    torch.save(saved, path)
    model = load_model(path)
    assert model.record.spec.name == name
    assert isinstance(model.record.spec, SqueezeNetSpec) and model.record.spec.head.last_relu
    assert (model.record.preprocessing.resize, model.record.preprocessing.crop) == (256, (224, 224))
    assert model.record.class_names[:2] == ("class0", "class1")
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, state[key])


def test_pth_of_another_architecture(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(torchvision_state("squeezenet1_0"), path)
    with pytest.raises(WeightsError, match=r"conv1: weight has shape .*--arch squeezenet1_0"):
        load_pth(path, "squeezenet1_1")
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(WeightsError, match="another network"):
        load_pth(path)


def test_torchvisions_alexnet_is_refused_by_name(tmp_path: Path) -> None:
    shapes = {
        "features.0.weight": (64, 3, 11, 11),
        "features.10.weight": (2, 2, 3, 3),
        "classifier.6.weight": (10, 4),
    }
    path = tmp_path / "alexnet.pth"
    torch.save({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    with pytest.raises(WeightsError, match="torchvision's alexnet.*no groups"):
        load_pth(path)


class Attack:
    """A pickle that runs a command when it is read carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("bare", [False, True])
def test_pickle_attack_does_nothing(tmp_path: Path, bare: bool) -> None:
    path, proof = tmp_path / "x.pth", tmp_path / "attacked"
    if bare:
        path.write_bytes(pickle.dumps(Attack(proof)))
    else:
        torch.save({"a": Attack(proof)}, path)
    with pytest.raises((MalformedError, WeightsError), match="posix.system"):
        load_model(path)
    assert not proof.exists()


def test_truncated_pth(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(torchvision_state("squeezenet1_1"), path)
    data = path.read_bytes()
    for length in (10, 5000, len(data) - 100):
        path.write_bytes(data[:length])
        with pytest.raises(MalformedError, match=r"x\.pth: not a \.pth file that can be read"):
            load_model(path)


def test_state_errors_name_the_layer() -> None:
    model = tiny_model()
    state = dict(model.module.state_dict())
    missing = {k: v for k, v in state.items() if k != "features.2.squeeze.weight"}
    with pytest.raises(WeightsError, match="fire2/squeeze: weight is missing"):
        from_state(model.record, missing, "x")
    with pytest.raises(WeightsError, match="'extra' is not part of squeezenet_tiny"):
        from_state(model.record, state | {"extra": torch.zeros(1)}, "x")
    nan = state | {"classifier.1.bias": torch.full((10,), float("nan"))}
    with pytest.raises(WeightsError, match="conv10: bias holds values that are not finite"):
        from_state(model.record, nan, "x")


def test_other_classes_need_a_new_head() -> None:
    model = tiny_model()
    names = model.record.class_names
    assert not needs_new_head(model, names)
    assert needs_new_head(model, names[::-1]) and needs_new_head(model, names[1:])
    with_ids = dataclasses.replace(model.record, class_ids=tuple(f"n{i}" for i in range(10)))
    assert not needs_new_head(dataclasses.replace(model, record=with_ids), with_ids.class_ids)
    spec = dataclasses.replace(
        preset("squeezenet1_1", num_classes=10, input_size=(32, 32)), batch_norm=False
    )
    assert isinstance(spec, SqueezeNetSpec)
    spec = dataclasses.replace(spec, head=dataclasses.replace(spec.head, last_relu=True))
    record = record_of(spec)
    before = from_compressed(random_model(record))
    after = with_new_head(before, ("x", "y"), seed=0)
    assert isinstance(after.record.spec, SqueezeNetSpec)
    assert not after.record.spec.head.last_relu and after.record.class_names == ("x", "y")
    old, new = before.module.state_dict(), after.module.state_dict()
    for key, value in new.items():
        assert key.startswith("classifier") or torch.equal(value, old[key])
    assert not after.record.class_ids
    head = new["classifier.1.weight"]
    assert float(head.std()) == pytest.approx(0.01, rel=0.1)
    assert not new["classifier.1.bias"].any()
    again = with_new_head(before, ("x", "y"), seed=0).module.state_dict()["classifier.1.weight"]
    other = with_new_head(before, ("x", "y"), seed=1).module.state_dict()["classifier.1.weight"]
    assert torch.equal(head, again) and not torch.equal(head, other)


def test_codebooks_to_torch_and_back(tiny_record: ModelRecord) -> None:
    model = random_model(tiny_record)
    loaded = from_compressed(model)
    again = to_compressed(loaded, "x")
    for a, b in zip(model.layers, again.layers, strict=True):
        np.testing.assert_array_equal(a.weights.dequantize(), b.weights.dequantize())
    assert container.encode(to_compressed(loaded, "x")) == container.encode(again)


def test_what_codebooks_cannot_hold() -> None:
    with pytest.raises(LossyConversionError, match="conv1: has batch normalisation.*compress"):
        to_compressed(tiny_model(), "x")
    with pytest.raises(LossyConversionError, match="conv1: over 255 different weights"):
        to_compressed(fold_batch_norm(tiny_model()), "x")


def test_odd_tensors_in_a_pth(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    state = torchvision_state("squeezenet1_1")
    key = "features.0.bias"
    odd = {
        "sparse": state[key].to_sparse(),
        "complex": state[key].to(torch.complex64),
        "boolean": state[key] > 0,
        "meta": state[key].to("meta"),
    }
    for tensor in odd.values():
        torch.save(state | {key: tensor}, path)
        with pytest.raises((WeightsError, MalformedError), match="not a plain tensor|not a .pth"):
            load_model(path)
    torch.save(state | {key: state[key].double() + 1e-12}, path)
    with pytest.raises(WeightsError, match="does not hold without loss"):
        load_model(path)
    torch.save({name: tensor.half().float() for name, tensor in state.items()}, path)
    full = load_model(path).module.state_dict()
    torch.save({name: tensor.half() for name, tensor in state.items()}, path)
    assert torch.equal(load_model(path).module.state_dict()[key], full[key])


def test_a_compressed_archive_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    path, bomb = tmp_path / "x.pth", tmp_path / "bomb.pth"
    torch.save(torchvision_state("squeezenet1_1"), path)
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name))
    with pytest.raises(MalformedError, match="compressed archive"):
        load_model(bomb)
