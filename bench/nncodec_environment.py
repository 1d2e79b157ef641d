"""NNCodec's own environment, made once; it shares our torch and NumPy. Needs a C++ compiler."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path


def nncodec_python(folder: Path) -> Path:
    """Return the Python of the environment in ``folder``, which is made if it is not there."""
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "pybind11", "setuptools", "wheel"], check=True)
        build = ["--no-deps", "--no-build-isolation", "nncodec==2.1.3"]
        subprocess.run([*pip, *build], check=True)
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        borrowed = folder / "lib" / version / "site-packages" / "borrowed.pth"
        borrowed.write_text(sysconfig.get_paths()["purelib"] + "\n")
        ready.touch()
    return python


def code(weights: Path, out: Path, qps: Iterable[int], environment: Path) -> None:
    """Code arrays of a ``.npz`` at each qp: OUT/qp<qp>.nnc, and decoded again OUT/qp<qp>.npz."""
    script = Path(__file__).with_name("nncodec_coder.py")
    command = [nncodec_python(environment), script, weights, out, *qps]
    subprocess.run([str(part) for part in command], check=True)
