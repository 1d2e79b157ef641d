"""The golden files of spec/vectors: what both readers and the oracle must accept and refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezenet.client import Classifier
from squeezenet.codec import container, range_coder, range_text, range_weights
from squeezenet.codec.types import CompressedModel
from squeezenet.reference.float_interpreter import FloatInterpreter
from squeezenet.reference.integer_interpreter import IntegerInterpreter
from tests.conftest import REPOSITORY
from tests.runtime.c_reader import ERRORS, Read, crc_of_floats, error_of, layer_line

VECTORS = REPOSITORY / "spec" / "vectors"
ACCEPT = sorted((VECTORS / "accept").glob("*.sqz"))
REJECT: dict[str, dict[str, Any]] = json.loads((VECTORS / "reject" / "errors.json").read_text())


def told(path: Path) -> dict[str, Any]:
    """What stands beside an accepted file."""
    content: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return content


def require(model: CompressedModel, expected: dict[str, Any]) -> None:
    """Check a decoded model against what stands beside its file."""
    assert sum(layer.num_weights for layer in model.layers) == expected["weights"]
    assert [
        {
            "name": layer.name,
            "shape": list(layer.weights.symbols_OIHW.shape),
            "weights_crc32": crc_of_floats(layer.weights.dequantize()),
            "biases_crc32": crc_of_floats(layer.bias_O),
        }
        for layer in model.layers
    ] == expected["layers"]


def test_they_are_what_the_program_makes() -> None:
    """The files, README's tables, and the worked example with its hex in FORMAT.md."""
    done = subprocess.run(
        [sys.executable, VECTORS.parent / "tools" / "make_vectors.py", "--check"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_worked_example_is_the_file() -> None:
    block = (VECTORS.parent / "FORMAT.md").read_text().split("## A worked example")[1]
    lines = block.split("```")[1].split("\n")[1:-1]
    assert [int(line.split()[0], 16) for line in lines] == [*range(0, 16 * len(lines), 16)]
    data = bytes.fromhex("".join("".join(line.split()[1:]) for line in lines))
    assert data == (VECTORS / "accept" / "smallest.sqz").read_bytes()
    assert len(data) == min(path.stat().st_size for path in ACCEPT)


def test_none_is_left_out() -> None:
    assert {path.name for path in (VECTORS / "reject").glob("*.sqz")} == set(REJECT)
    assert {case["error"] for case in REJECT.values()} == set(ERRORS)


@pytest.mark.parametrize("path", ACCEPT, ids=lambda path: path.stem)
def test_accepted(path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    data, expected = path.read_bytes(), told(path)
    assert (len(data), f"{zlib.crc32(data):08x}") == (expected["bytes"], expected["crc32"])
    model = container.read_sqz(path)
    require(model, expected)
    lines = read(data)
    assert error_of(lines) == expected.get("c")
    if "c" not in expected:
        assert lines[0].startswith(f"weights {expected['weights']} ")
        assert lines[1:-2] == [
            layer_line(layer["shape"], layer["weights_crc32"], layer["biases_crc32"])
            for layer in expected["layers"]
        ]
    if "logits" in expected:
        [found] = FloatInterpreter(model)(picture(model)[None])
        assert np.abs(found - np.array(expected["logits"])).max() <= expected["tolerance"]
    assert model.is_integer == ("integer_logits" in expected)
    if model.is_integer:
        pixels_NHWC = pixels(model).transpose(1, 2, 0)[None]
        for client in (IntegerInterpreter(model), Classifier(path)):
            assert client.integer_logits(pixels_NHWC)[0].tolist() == expected["integer_logits"]
    monkeypatch.setattr(range_weights, "Decoder", range_coder.Decoder)
    monkeypatch.setattr(range_text, "Decoder", range_coder.Decoder)
    oracle = container.decode(data)
    require(oracle, expected)
    assert oracle.record == model.record


def picture(model: CompressedModel) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The network's input, float32 CHW."""
    prep = model.record.preprocessing
    mean, deviation = (np.array(v, np.float32)[:, None, None] for v in (prep.mean, prep.std))
    return ((pixels(model).astype(np.float32) - mean) / deviation).astype(np.float32)


def pixels(model: CompressedModel) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture by the formula of spec/vectors/README.md, uint8 CHW."""
    prep = model.record.preprocessing
    c, y, x = np.ogrid[: prep.num_channels, : prep.crop[0], : prep.crop[1]]
    return ((37 * c + 101 * y + 59 * x + 17 * x * y + 11) % 256).astype(np.uint8)


@pytest.mark.parametrize("name", REJECT)
def test_rejected(name: str, read: Read) -> None:
    data, case = (VECTORS / "reject" / name).read_bytes(), REJECT[name]
    with pytest.raises(ERRORS[case["error"]]) as caught:
        container.decode(data, name)
    assert caught.type is ERRORS[case["error"]]
    assert error_of(read(data)) == case.get("c", case["error"])
