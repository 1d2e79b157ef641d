"""ONNX files that export writes: valid, and with the logits and bytes of our own interpreters."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from squeezenet.arch.graph import Add, Conv, MaxPool, build_graph
from squeezenet.arch.preprocessing import ChannelOrder, Preprocessing
from squeezenet.arch.quantized_tensors import find_head
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.container import encode, read_sqz
from squeezenet.codec.model_kinds import DEFAULT_MODEL
from squeezenet.codec.onnx_metadata import read_sealed, seal
from squeezenet.codec.types import CompressedModel, LevelWeights
from squeezenet.errors import LimitError
from squeezenet.export.onnx.int8_graph import saturating_layers
from squeezenet.export.onnx.project import exact_model, float_model, int8_model
from squeezenet.images.preprocess import crop_pixels, normalise
from squeezenet.model.load import from_compressed
from squeezenet.reference.integer_interpreter import (
    LOGIT_UNIT,
    IntegerInterpreter,
    accumulate,
    add,
    quantise_input,
    requantise,
    sum_logits,
)
from squeezenet.reference.integer_parameters import integer_parameters
from squeezenet.reference.windows import max_pool
from tests.cli.running import Capture, as_json, failure, output
from tests.conftest import random_model, record_of
from tests.reference.test_float_interpreter import networks
from tests.runtime.networks import random_network

_RNG = np.random.default_rng


def checked(model: Any) -> Any:
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: Any, x: np.ndarray, *others: str) -> list[np.ndarray]:
    """Run a graph in ONNX Runtime on one thread: its logits, then the values of these names."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for name in others:
        is_bytes = name.endswith(".bytes")
        kind = onnx.TensorProto.UINT8 if is_bytes else onnx.TensorProto.FLOAT
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Else x86 without VNNI adds two products in 16 bits, which saturates in random networks.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    [source] = session.get_inputs()
    return session.run(["logits", *others], {source.name: x})


def inputs(record: ModelRecord, count: int) -> np.ndarray:
    """Cropped pixels, uint8 (N, H, W, C)."""
    shape = (count, *record.preprocessing.crop, record.preprocessing.num_channels)
    return _RNG(count).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("name", networks())
def test_float32_equals_torch(name: str) -> None:
    """The whole family, on one image and on three."""
    model = random_model(record_of(networks()[name]))
    made = checked(float_model(model))
    for count in (1, 3):
        x_NCHW = normalise(inputs(model.record, count), model.record.preprocessing)
        [logits] = run(made, x_NCHW)
        expected = from_compressed(model).logits(x_NCHW)
        assert logits.shape == expected.shape
        scale = np.abs(expected).max()
        np.testing.assert_allclose(logits / scale, expected / scale, atol=2e-5)


@pytest.mark.parametrize("seed", range(12))
def test_int8_computes_the_bytes_of_the_reference(seed: int) -> None:
    """Each operation, from the graph's own bytes: equal up to one, since it rounds in one step."""
    model = random_network(seed)
    graph, parameters = build_graph(model.record.spec), integer_parameters(model)
    head = find_head(graph)
    assert head is not None
    names = [name for name in graph.tensors if name not in (graph.input, head.target, "logits")]
    [stem] = [op for op in graph.convs if op.source == graph.input]
    pixels = inputs(model.record, 2)
    logits, x_NCHW, *tensors = run(
        checked(int8_model(model)),
        normalise(pixels, model.record.preprocessing),
        f"{stem.name}.source.bytes",
        *(f"{name}.bytes" for name in names),
    )
    for image in range(2):
        values = {name: tensor[image] for name, tensor in zip(names, tensors, strict=True)}
        pad = stem.padding
        sides = slice(pad, x_NCHW.shape[2] - pad), slice(pad, x_NCHW.shape[3] - pad)
        values[graph.input] = quantise_input(pixels[image], parameters.input)
        difference = x_NCHW[image][:, *sides].astype(int) - values[graph.input]
        assert np.abs(difference).max() <= (
            0 if len(set(model.record.preprocessing.std)) == 1 else 1
        )
        values[graph.input] = np.ascontiguousarray(x_NCHW[image][:, *sides])
        for op in graph.operations:
            if isinstance(op, Conv):
                acc_OP = accumulate(
                    values[op.source], parameters.padding[op.source], parameters.convs[op.name], op
                )
                if op is head:
                    exact = sum_logits(acc_OP, parameters.convs[op.name], relu=op.relu)
                    expected = exact * LOGIT_UNIT
                    tolerance = 1e-4 * max(1, np.abs(expected).max())
                    np.testing.assert_allclose(logits[image], expected, atol=tolerance)
                    continue
                found = values[op.target][op.target_start : op.target_start + op.out_channels]
                wanted = requantise(acc_OP, parameters.convs[op.name]).reshape(found.shape)
                assert np.abs(found.astype(int) - wanted).max() <= 1, op.name
            elif isinstance(op, MaxPool):
                target = graph.tensors[op.target]
                wanted = max_pool(values[op.source], op.kernel, op.stride, target, 0)
                np.testing.assert_array_equal(values[op.target], wanted)
            elif isinstance(op, Add):
                wanted = add(values[op.source], values[op.other], parameters.adds[op.name])
                assert np.abs(values[op.target].astype(int) - wanted).max() <= 1, op.name


@pytest.mark.parametrize("seed", range(12))
def test_exact_has_the_logits_of_the_clients(seed: int) -> None:
    model = random_network(seed)
    pixels = inputs(model.record, 3)
    [logits] = run(checked(exact_model(model)), normalise(pixels, model.record.preprocessing))
    np.testing.assert_array_equal(logits, IntegerInterpreter(model).logits(pixels))


def test_exact_on_pictures() -> None:
    model = read_sqz(DEFAULT_MODEL)
    pictures = _RNG(5).integers(0, 256, (4, 41, 70, 3), dtype=np.uint8)
    crops = np.stack([crop_pixels(each, model.record.preprocessing) for each in pictures])
    [logits] = run(checked(exact_model(model, preprocessing=True)), pictures)
    np.testing.assert_array_equal(logits, IntegerInterpreter(model).logits(crops))


def test_sums_that_float32_does_not_hold() -> None:
    """The int8 graph has them in 32 bits, the exact graph cannot."""
    model = with_levels(read_sqz(DEFAULT_MODEL), "conv10", 127)
    int8_model(model)
    layer = model.layers[-2]
    assert isinstance(layer.weights, LevelWeights)
    with pytest.raises(LimitError, match="more than float32 holds"):
        exact_model(with_levels(model, layer.name, 127))


def with_levels(model: CompressedModel, name: str, *values: int) -> CompressedModel:
    """Return the model with these levels first in a layer and 0 after; a single value is all."""
    layers = []
    for layer in model.layers:
        if layer.name == name:
            assert isinstance(layer.weights, LevelWeights)
            levels = np.zeros_like(layer.weights.levels_OIHW)
            levels.reshape(-1)[: len(values)] = values
            if len(values) == 1:
                levels[:] = values[0]
            layer = dataclasses.replace(
                layer, weights=dataclasses.replace(layer.weights, levels_OIHW=levels)
            )
        layers.append(layer)
    return dataclasses.replace(model, layers=tuple(layers))


def test_int8_runs_in_integers(tmp_path: Path) -> None:
    """ONNX Runtime makes integer operations of all convolutions, and of the head."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    # Beyond this level it changes to layouts of the processor that it runs on.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    made = int8_model(read_sqz(DEFAULT_MODEL))
    onnxruntime.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    operations = build_graph(read_sqz(DEFAULT_MODEL).record.spec).operations
    convs, adds = (sum(isinstance(op, kind) for op in operations) for kind in (Conv, Add))
    assert "Conv" not in kinds and "MatMul" not in kinds and "Relu" not in kinds, kinds
    assert kinds.count("QLinearConv") == convs - 1 and kinds.count("QLinearAdd") == adds


def test_int8_predicts_as_the_reference() -> None:
    model = read_sqz(DEFAULT_MODEL)
    pixels = np.clip(inputs(model.record, 20) // 4 + np.arange(20)[:, None, None, None] * 9, 0, 255)
    pixels = pixels.astype(np.uint8)
    [logits] = run(int8_model(model), normalise(pixels, model.record.preprocessing))
    expected = IntegerInterpreter(model).logits(pixels)
    assert np.abs(logits - expected).max() < 0.05 * np.ptp(expected)


@pytest.mark.parametrize("channels", ["RGB", "BGR", "L"])
@pytest.mark.parametrize(
    "size", [(1, 1), (3, 40), (21, 21), (24, 60), (211, 97), (90, 640), (1200, 30)]
)
def test_preprocessing_equals_ours(channels: ChannelOrder, size: tuple[int, int]) -> None:
    """Bit for bit, of two pictures at a time, smaller and larger than the network's input."""
    count = 1 if channels == "L" else 3
    prep = Preprocessing(
        resize=24,
        crop=(20, 17),
        channels=channels,
        mean=(123.675, 116.28, 103.53)[:count],
        std=(58.395, 57.12, 57.375)[:count],
    )
    spec = dataclasses.replace(networks()["tiny"], input_channels=count, input_size=(20, 17))
    record = dataclasses.replace(record_of(networks()["tiny"]), spec=spec, preprocessing=prep)
    made = checked(float_model(random_model(record), preprocessing=True))
    pictures = _RNG(3).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    _, x_NCHW = run(made, pictures, "input")
    crops = np.stack([crop_pixels(picture, prep) for picture in pictures])
    np.testing.assert_array_equal(x_NCHW, normalise(crops, prep))


def test_preprocessing_of_the_int8_graph() -> None:
    model = read_sqz(DEFAULT_MODEL)
    pictures = _RNG(4).integers(0, 256, (2, 50, 44, 3), dtype=np.uint8)
    crops = np.stack([crop_pixels(each, model.record.preprocessing) for each in pictures])
    [inside] = run(checked(int8_model(model, preprocessing=True)), pictures)
    [outside] = run(int8_model(model), normalise(crops, model.record.preprocessing))
    np.testing.assert_allclose(inside, outside, atol=1e-5)


def test_metadata() -> None:
    model = read_sqz(DEFAULT_MODEL)
    for made, arithmetic in ((float_model(model), "float32"), (int8_model(model), "int8")):
        values = {each.key: each.value for each in made.metadata_props}
        assert tuple(json.loads(values["class_names"])) == model.record.class_names
        prep = json.loads(values["preprocessing"])
        assert prep["channels"] == "RGB" and tuple(prep["mean"]) == model.record.preprocessing.mean
        assert values["arithmetic"] == arithmetic
        [source], [logits] = made.graph.input, made.graph.output
        sides = [side.dim_param or side.dim_value for side in source.type.tensor_type.shape.dim]
        assert (source.name, sides) == ("input", ["N", 3, 32, 32]) and logits.name == "logits"
        assert [each.version for each in made.opset_import] == [13]


def test_layers_that_may_saturate() -> None:
    model = read_sqz(DEFAULT_MODEL)
    others = set(saturating_layers(with_levels(model, "conv1", 0)))
    for values, expected in (
        ((127, 1), False),
        ((127, 2), True),
        ((64, -127, 64), False),
        ((-64, 127, -65), True),
    ):
        found = set(saturating_layers(with_levels(model, "conv1", *values)))
        assert (found - others == {"conv1"}) is expected


def test_the_command(capsys: Capture, tmp_path: Path, tiny_record: ModelRecord) -> None:
    text = output(capsys, "export", "default", "--to", "onnx", "--out", tmp_path / "a")
    assert text == (
        f"{tmp_path / 'a'}: float32.onnx, int8.onnx, exact.onnx, README.md, SHA256SUMS; "
        f"run as {tmp_path / 'a'}/README.md says\n"
    )
    sqz = tmp_path / "float.sqz"
    sqz.write_bytes(encode(random_model(tiny_record)))
    text = output(capsys, "export", sqz, "--to", "onnx", "--out", tmp_path / "b")
    assert "float32.onnx, README.md" in text and "no int8.onnx: the .sqz is for float32" in text
    assert "There is no `int8.onnx`" in (tmp_path / "b" / "README.md").read_text()
    line = failure(capsys, 2, "export", sqz, "--to", "onnx", "--out", tmp_path / "a")
    assert "int8.onnx: is of an earlier export" in line
    out = ["--out", tmp_path / "c", "--preprocessing"]
    line = failure(capsys, 2, "export", "default", "--to", "c", *out)
    assert "--preprocessing is for --to onnx" in line


def test_the_example_of_the_folder_runs(capsys: Capture, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (50, 40), "skyblue").save(tmp_path / "photo.jpg")
    for options in ([], ["--preprocessing"]):
        folder = tmp_path / f"folder{len(options)}"
        output(capsys, "export", "default", "--to", "onnx", "--out", folder, *options)
        code = (folder / "README.md").read_text().split("```")[1].removeprefix("python\n")
        code = code.replace("photo.jpg", str(tmp_path / "photo.jpg"))
        code = code.replace("int8.onnx", str(folder / "int8.onnx"))
        exec(compile(code, "README.md", "exec"), {})
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 5 and lines[0].split()[0] in read_sqz(DEFAULT_MODEL).record.class_names


def test_convert_reads_it_back(capsys: Capture, tmp_path: Path) -> None:
    """The same .safetensors as from the .sqz itself: every weight, the record, the classes."""
    as_json(capsys, "convert", "default", tmp_path / "expected.safetensors")
    for options in ([], ["--preprocessing"]):
        folder = tmp_path / f"folder{len(options)}"
        as_json(capsys, "export", "default", "--to", "onnx", "--out", folder, *options)
        found = tmp_path / "found.safetensors"
        told = as_json(capsys, "convert", folder / "float32.onnx", found)
        assert told["source_kind"] == ".onnx"
        assert found.read_bytes() == (tmp_path / "expected.safetensors").read_bytes()


def test_other_onnx_files_are_refused(capsys: Capture, tmp_path: Path) -> None:
    as_json(capsys, "export", "default", "--to", "onnx", "--out", tmp_path / "a")
    whole = (tmp_path / "a" / "float32.onnx").read_bytes()
    changed = onnx.ModelProto.FromString(whole)
    values = bytearray(changed.graph.initializer[0].raw_data)
    values[5] ^= 1
    changed.graph.initializer[0].raw_data = bytes(values)
    foreign = onnx.ModelProto.FromString(whole)
    del foreign.metadata_props[:]
    elsewhere = onnx.ModelProto.FromString(whole)
    tensor = elsewhere.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    dimensions = onnx.ModelProto.FromString(whole)
    dimensions.graph.initializer[0].dims.extend([1] * 1000)
    sealed = dimensions.metadata_props
    record, _ = read_sealed(onnx.ModelProto.FromString(whole), "") or (None, "")
    assert record is not None
    del sealed[:]
    seal(dimensions, record, "float32")
    for data, code, expected in (
        (dimensions.SerializeToString(), 1, "expected float32 in ("),
        ((tmp_path / "a" / "int8.onnx").read_bytes(), 2, "has int8 weights, expected the float32"),
        (foreign.SerializeToString(), 1, "an ONNX file of another program"),
        (changed.SerializeToString(), 1, "its SHA-256 is not the one inside"),
        (elsewhere.SerializeToString(), 1, "its SHA-256 is not the one inside"),
        (whole[: len(whole) // 2], 1, "not a whole ONNX file"),
        (whole.replace(b"class_ids", b"class\xffids"), 1, "its SHA-256 is not the one inside"),
    ):
        (tmp_path / "x.onnx").write_bytes(data)
        out = tmp_path / "x.safetensors"
        assert expected in failure(capsys, code, "convert", tmp_path / "x.onnx", out)
        assert not out.exists()


def test_the_package_is_missing(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_json(capsys, "export", "default", "--to", "onnx", "--out", tmp_path / "a")
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx" else real(name)
    )
    for arguments in (
        ["export", "default", "--to", "onnx", "--out", tmp_path / "b"],
        ["convert", tmp_path / "a" / "float32.onnx", tmp_path / "x.safetensors"],
    ):
        line = failure(capsys, 1, *arguments)
        assert "needs the Python package 'onnx'" in line and "'sqznet[onnx]'" in line
