"""``import squeezenet`` is light, and its names are there when they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import squeezenet
from tests.conftest import REPOSITORY


def run(program: str) -> str:
    """Run a program in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import squeezenet\n"
        "print(sorted(name for name in set(sys.modules) - before if 'squeezenet.' in name))\n"
        "print('numpy' in sys.modules, 'torch' in sys.modules)"
    )
    assert run(program).splitlines() == ["[]", "False False"]


def test_a_name_loads_no_more_than_it_needs() -> None:
    program = (
        "import sys, squeezenet\n"
        "squeezenet.Prediction, squeezenet.SqueezeNetError, squeezenet.open_model\n"
        "squeezenet.train, squeezenet.compress, squeezenet.TrainResult, squeezenet.OpenModel\n"
        "print('numpy' in sys.modules, 'torch' in sys.modules)\n"
        "squeezenet.Classifier()\n"
        "print('numpy' in sys.modules, 'torch' in sys.modules)"
    )
    assert run(program).splitlines() == ["False False", "True False"]


def test_predicting_by_the_command_takes_no_numpy(tmp_path: Path) -> None:
    Image.new("RGB", (48, 40), "skyblue").save(tmp_path / "sky.png")
    program = (
        "import sys, squeezenet.__main__ as program\n"
        f"sys.argv = ['squeezenet', 'predict', {str(tmp_path / 'sky.png')!r}]\n"
        "try: program.main()\n"
        "except SystemExit as done: print(done.code, 'numpy' in sys.modules)"
    )
    assert run(program).splitlines()[-1] == "0 False"


def test_public_names() -> None:
    assert set(squeezenet.__all__) <= set(dir(squeezenet))
    for name in squeezenet.__all__:
        assert getattr(squeezenet, name) is not None
    assert squeezenet.__version__ == "0.1.0"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        squeezenet.nonsense  # noqa: B018


@pytest.mark.parametrize("module", ["train.stop", "compress.deep_compression.settings"])
@pytest.mark.parametrize("first", ["import squeezenet.{1}", "import squeezenet.{0}", "pass"])
def test_functions_stay_functions_beside_folders_of_the_same_name(module: str, first: str) -> None:
    """Whichever is imported first, and however the folder's modules are imported."""
    program = (
        f"{first}\n"
        "import types, squeezenet\n"
        "assert isinstance(squeezenet.{0}, types.FunctionType)\n"
        "import squeezenet.{1} as module\n"
        "assert isinstance(module, types.ModuleType) and module is squeezenet.{1}\n"
        "from squeezenet import {0}\n"
        "assert {0} is squeezenet.{0} and isinstance({0}, types.FunctionType)"
    )
    run(program.format(module.partition(".")[0], module))


@pytest.mark.parametrize("maker", ["make_reference.py", "make_commands.py"])
def test_the_reference_is_up_to_date(maker: str) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "docs" / maker), "--check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_reference_has_every_public_name() -> None:
    page = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
    for name in squeezenet.__all__:
        assert name == "__version__" or f"`squeezenet.{name}`" in page or f"- `{name}`" in page


def test_no_hint_names_the_other_project() -> None:
    """``squeezenet`` on PyPI is not this one."""
    texts = [*(REPOSITORY / "src").rglob("*.py"), *REPOSITORY.glob("*.md"), REPOSITORY / "Makefile"]
    assert [str(path) for path in texts if "install squeezenet" in _without_quotes(path)] == []


def _without_quotes(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("'", "").replace('"', "")
