"""Checkpoints come back as they were written; what is not of the network is as if not there."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from squeezenet.arch.graph import Graph, build_graph
from squeezenet.arch.presets import squeezenet_tiny
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.codec.numerics import round_scales
from squeezenet.codec.types import ActivationScale
from squeezenet.compress.rate_distortion.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_class_fisher,
    load_curvatures,
    save_checkpoint,
    save_class_fisher,
    save_curvatures,
)
from squeezenet.compress.rate_distortion.class_fisher import max_rank
from squeezenet.compress.rate_distortion.curvature import Curvature
from squeezenet.compress.rate_distortion.quantized_network import (
    QuantizedLayer,
    QuantizedNetwork,
)
from squeezenet.sealed_files import read_sealed, write_sealed

GRAPH = build_graph(squeezenet_tiny())
FIRST = GRAPH.convs[0].name
Array = npt.NDArray[Any]


def checkpoint(graph: Graph = GRAPH) -> Checkpoint:
    rng = np.random.default_rng(0)
    levels = {
        conv.name: QuantizedLayer(
            weight_shape=conv.weight_shape,
            trellis=conv.source != graph.input,
            codes_OP=rng.integers(-63, 64, (conv.num_weights // conv.out_channels,
                                            conv.out_channels)).T,
            scales_O=round_scales(rng.uniform(0.1, 1, conv.out_channels)),
            bias_O=rng.normal(size=conv.out_channels),
            bias_curvature=float(rng.uniform()),
        )
        for conv in graph.convs
    }  # fmt: skip
    names = scaled_tensors(graph)
    scales = {name: ActivationScale(scale=0.5, zero_point=i) for i, name in enumerate(names)}
    network = QuantizedNetwork(levels=levels, lambda_=0.1)
    return Checkpoint(passes=2, network=network, activations=scales)


def curvatures() -> dict[str, Curvature]:
    rng = np.random.default_rng(0)
    found = {}
    for conv in GRAPH.convs:
        groups, inputs = conv.groups, conv.num_weights // conv.out_channels
        outputs = conv.out_channels // groups
        found[conv.name] = Curvature(
            fisher_GPP=rng.normal(size=(groups, inputs, inputs)),
            output_GQQ=rng.normal(size=(groups, outputs, outputs)),
            mean_GP=rng.normal(size=(groups, inputs)),
            moment_GPP=rng.normal(size=(groups, inputs, inputs)),
        )
    return found


@pytest.mark.parametrize("with_scales", [True, False])
def test_networks(tmp_path: Path, with_scales: bool) -> None:
    path, saved = tmp_path / "network.npz", checkpoint()
    if not with_scales:
        saved = dataclasses.replace(saved, activations={})
    assert load_checkpoint(path, GRAPH) is None
    save_checkpoint(path, saved)
    found = load_checkpoint(path, GRAPH)
    assert found is not None
    assert (found.passes, found.network.lambda_, found.activations) == (2, 0.1, saved.activations)
    assert list(found.network.levels) == list(saved.network.levels)
    for name, layer in saved.network.levels.items():
        other = found.network.levels[name]
        for field in dataclasses.fields(layer):
            a, b = getattr(layer, field.name), getattr(other, field.name)
            np.testing.assert_array_equal(a, b)
            assert type(a) is type(b) and getattr(a, "dtype", 0) == getattr(b, "dtype", 0)


def test_curvatures(tmp_path: Path) -> None:
    path, saved = tmp_path / "curvature.npz", curvatures()
    assert load_curvatures(path, GRAPH) is None
    save_curvatures(path, saved)
    found = load_curvatures(path, GRAPH)
    assert found is not None and list(found) == list(saved)
    for name, curvature in saved.items():
        for field in dataclasses.fields(curvature):
            np.testing.assert_array_equal(
                getattr(found[name], field.name), getattr(curvature, field.name)
            )


def test_class_fisher(tmp_path: Path) -> None:
    path, conv = tmp_path / "classes.npz", GRAPH.convs[-1]
    assert load_class_fisher(path, GRAPH) is None
    shape = (conv.out_channels, max_rank(conv), conv.num_weights // conv.out_channels)
    roots_KRP = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    save_class_fisher(path, roots_KRP)
    np.testing.assert_array_equal(load_class_fisher(path, GRAPH), roots_KRP)
    for damaged in (roots_KRP[1:], roots_KRP.astype(np.float64), roots_KRP * np.nan):
        save_class_fisher(path, damaged)
        assert load_class_fisher(path, GRAPH) is None


def rewrite(path: Path, change: Callable[[dict[str, Array]], None], **options: Any) -> None:
    """Change arrays of a work file, and give it a right checksum."""
    with np.load(io.BytesIO(read_sealed(path) or b""), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    change(arrays)
    buffer = io.BytesIO()
    save = np.savez_compressed if options.get("compressed") else np.savez
    save(buffer, **arrays)  # type: ignore[arg-type]
    write_sealed(path, lambda file: file.write(buffer.getvalue()))


def put(name: str, value: object) -> Callable[[dict[str, Array]], None]:
    return lambda arrays: arrays.update({name: np.asarray(value)})


def put_first(name: str, value: object) -> Callable[[dict[str, Array]], None]:
    def change(arrays: dict[str, Array]) -> None:
        arrays[name].reshape(-1)[0] = value

    return change


NETWORK_CHANGES = {
    "an array is missing": lambda arrays: arrays.pop(f"{FIRST}:codes"),
    "another type": put(f"{FIRST}:bias", np.zeros(GRAPH.convs[0].out_channels, np.float32)),
    "another shape": put(f"{FIRST}:bias", np.zeros(3)),
    "a wrong weight shape": put_first(f"{FIRST}:shape", 99),
    "negative passes": put("passes", -1),
    "no lambda": put("lambda", 0.0),
    "endless lambda": put("lambda", float("inf")),
    "a scale of 0": put_first(f"{FIRST}:scales", 0),
    "a scale that is no number": put_first(f"{FIRST}:scales", float("nan")),
    "a scale of many digits": put_first(f"{FIRST}:scales", 0.123456),
    "a bias that is no number": put_first(f"{FIRST}:bias", float("nan")),
    "a negative curvature": put(f"{FIRST}:bias_curvature", -1.0),
    "a level that is too large": put_first(f"{FIRST}:codes", -128),
    "a code that is too large": put_first("fire2/squeeze:codes", 100),
    "some activations": lambda arrays: arrays.pop(f"{scaled_tensors(GRAPH)[0]}:activation"),
    "an activation of 0": put(f"{scaled_tensors(GRAPH)[0]}:activation", [0.0, 0.0]),
    "a zero point of 0.5": put(f"{scaled_tensors(GRAPH)[0]}:activation", [0.5, 0.5]),
    "a zero point that is no number": put_first(
        f"{scaled_tensors(GRAPH)[0]}:activation", float("nan")
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", NETWORK_CHANGES)
def test_a_network_that_no_work_leaves_is_damaged(tmp_path: Path, change: str) -> None:
    """A checksum is no signature."""
    path = tmp_path / "network.npz"
    save_checkpoint(path, checkpoint())
    rewrite(path, lambda arrays: None)
    assert load_checkpoint(path, GRAPH) is not None
    rewrite(path, NETWORK_CHANGES[change])
    assert load_checkpoint(path, GRAPH) is None


CURVATURE_CHANGES = {
    "an array is missing": lambda arrays: arrays.pop(f"{FIRST}:mean_GP"),
    "another type": put(f"{FIRST}:mean_GP", np.zeros((1, 9), np.complex128)),
    "another shape": put(f"{FIRST}:mean_GP", np.zeros((1, 1))),
    "not finite": put_first(f"{FIRST}:fisher_GPP", float("inf")),
}


@pytest.mark.parametrize("change", CURVATURE_CHANGES)
def test_curvatures_that_no_work_leaves_are_damaged(tmp_path: Path, change: str) -> None:
    path = tmp_path / "curvature.npz"
    save_curvatures(path, curvatures())
    rewrite(path, CURVATURE_CHANGES[change])
    assert load_curvatures(path, GRAPH) is None


def test_hostile_archives_are_damaged(tmp_path: Path) -> None:
    """Compressed, with an array of 2^42 numbers, with a damaged header, and no archive at all."""
    path = tmp_path / "curvature.npz"
    save_curvatures(path, curvatures())
    rewrite(path, lambda arrays: None, compressed=True)
    assert load_curvatures(path, GRAPH) is None
    huge = (
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,)}"
    )
    for header in (huge.ljust(127) + b"\n", b"\x93NUMPY\x01\x00\xff\xff{" + b"(" * 70_000, b""):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(f"{FIRST}:fisher_GPP.npy", header)
        data = buffer.getvalue()
        write_sealed(path, lambda file, data=data: file.write(data))  # type: ignore[misc]
        assert load_curvatures(path, GRAPH) is None
    write_sealed(path, lambda file: file.write(b"no archive"))
    assert load_curvatures(path, GRAPH) is None
