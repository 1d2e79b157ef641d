"""What works without the optional packages, and what is said of the rest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import Capture, failure


def test_missing_extra(
    capsys: Capture, tmp_path: Path, sqz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else real(name)
    )
    for arguments in (
        ["train", "digits", "--arch", "squeezenet_tiny", "--out", tmp_path / "run"],
        ["compress", sqz, "--data", "digits", "--out", tmp_path / "x.sqz"],
        ["convert", sqz, tmp_path / "x.safetensors"],
        ["eval", sqz, "digits"],
        ["demo", "--out", tmp_path / "demo"],
    ):
        line = failure(capsys, 1, *arguments)
        assert "pip install 'sqznet[train]'" in line


def test_the_light_install_has_no_torch(sqz: Path, image_folder: Callable[..., Path]) -> None:
    """info, eval, predict and card on a .sqz work where torch and matplotlib are not; training says
    what to install."""
    folder = image_folder(c0=2, c1=2)
    blocked = "torch", "safetensors", "sklearn", "tensorboard", "matplotlib"
    program = (
        "import sys, importlib.util as u\n"
        f"blocked = {blocked!r}\n"
        "for name in blocked: sys.modules[name] = None\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in blocked else find(name, *a)\n"
        "from squeezenet.cli.app import run\n"
        "codes = [run(['info', sys.argv[1]]), run(['eval', sys.argv[1], sys.argv[2]]),\n"
        "         run(['predict', sys.argv[1], sys.argv[2]]), run(['fetch']),\n"
        "         run(['card', sys.argv[1], sys.argv[2], '--out', sys.argv[1] + '.md']),\n"
        "         run(['convert', sys.argv[1], sys.argv[1] + '.copy.sqz']),\n"
        "         run(['export', 'default', '--to', 'c', '--out', sys.argv[1] + '-c']),\n"
        "         run(['export', 'default', '--to', 'onnx', '--out', sys.argv[1] + '-onnx']),\n"
        "         run(['train', 'digits', '--arch', 'squeezenet_tiny', '--out', 'x'])]\n"
        "print(codes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(sqz), str(folder)], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0, 0, 0, 0, 0, 1]", done.stderr
    assert done.stderr.strip().splitlines()[-1] == (
        "squeezenet: training needs the Python package 'torch', which is not installed; "
        "install it with: pip install 'sqznet[train]'; without a GPU, install a CPU build of torch "
        "before it, which is far smaller: see pytorch.org/get-started"
    )
