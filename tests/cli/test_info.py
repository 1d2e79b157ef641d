"""``info`` of architectures and files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import Capture, as_json, output


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("squeezenet1_0", 1_248_424), ("squeezenet1_1", 1_235_496), ("alexnet", 60_965_224)],
)
def test_info_of_an_architecture(capsys: Capture, name: str, parameters: int) -> None:
    result = as_json(capsys, "info", name)
    assert result["parameters"] == parameters
    assert result["weight_bytes"] == 4 * parameters and result["file_bytes"] is None
    assert {"macs", "activation_bytes", "layers"} <= set(result)
    assert f"{parameters:,}" in output(capsys, "info", name)


def test_info_of_a_file(capsys: Capture, sqz: Path) -> None:
    result = as_json(capsys, "info", sqz)
    assert result["file_bytes"] == sqz.stat().st_size
    layers = result["layers"]
    assert isinstance(layers, list) and 30 < layers[0]["density"] < 50
    text = output(capsys, "info", sqz)
    assert "preprocessing" in text and "c0, c1" in text


def test_output_is_plain_where_it_is_no_terminal(sqz: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "squeezenet", "info", str(sqz)], capture_output=True, text=True
    )
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr


def test_memory_and_time_of_a_client(capsys: Capture) -> None:
    """One figure for the RAM: arena, memory and stack together."""
    client = as_json(capsys, "info", "default")["client"]
    for suffix in ("", "_streamed"):
        parts = client[f"arena{suffix}"], client[f"memory{suffix}"], client["stack"]
        assert client[f"ram{suffix}"] == sum(parts)
    assert client["latency_ms"] > 0
    text = output(capsys, "info", "default")
    assert f"{client['ram_streamed']:,} bytes streamed (weights stay in flash), " in text
    assert f"{client['ram']:,} unpacked" in text
    assert " ms per image here, one thread" in text
