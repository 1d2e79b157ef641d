"""Compilers and emulators: what is missing comes from Debian, if this user may install, and from
PyPI into folders of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[3]
RUNTIME = REPOSITORY / "runtime"


class TargetError(Exception):
    """A target could not be built or run, or has other logits than the oracle."""


def install(packages: dict[str, str]) -> None:
    """Install packages, by a program or file that shows whether they are there.

    Raises:
        TargetError: they are not, and cannot be installed.
    """
    missing = [package for proof, package in packages.items() if not _there(proof)]
    if not missing:
        return
    print(f"installing {' '.join(missing)}", flush=True)
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    apt_get = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    try:
        call([*apt_get, "update"])
        call([*apt_get, "install", "-y", "--no-install-recommends", *missing])
    except (TargetError, FileNotFoundError) as error:
        needs = f"apt-get install {' '.join(missing)}"
        raise TargetError(f"needs {needs}, which failed here: {error}") from None


def _there(proof: str) -> bool:
    return Path(proof).exists() if proof.startswith("/") else shutil.which(proof) is not None


def install_python(package: str, folder: Path) -> Path:
    """Install a package, ``NAME==VERSION``, into an environment of its own; return its Python.

    Raises:
        TargetError: it cannot be installed; there may be no build of it for this machine.
    """
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if done.exists() and done.read_text() == package:
        return python
    print(f"installing {package} in {folder}", flush=True)
    options = ("--quiet", "--disable-pip-version-check", "--only-binary", ":all:")
    try:
        call([sys.executable, "-m", "venv", "--clear", folder])
        call([python, "-m", "pip", "install", *options, package])
    except TargetError as error:
        raise TargetError(f"needs {package} from PyPI, which failed here: {error}") from None
    done.write_text(package)
    return python


def load_program(path: Path) -> Any:
    """Import a program of the repository that is in no package."""
    name = f"program_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def call(
    command: Sequence[str | Path], *, seconds: float = 600, env: dict[str, str] | None = None
) -> str:
    """Run a program and return what it prints.

    Raises:
        TargetError: it ended with another exit code than 0, or not in time.
    """
    name = " ".join(Path(part).name for part in command[:3])
    try:
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            env=os.environ | (env or {}),
        )
    except subprocess.TimeoutExpired:
        raise TargetError(f"{name} took more than {seconds:.0f} s") from None
    if done.returncode:
        raise TargetError(f"{name}: exit code {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout
