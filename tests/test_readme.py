"""README's examples, as they stand there, but for fewer epochs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from squeezenet.data.digits import load_digits
from tests.conftest import REPOSITORY


def examples(language: str) -> list[str]:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"<!-- tested -->\n```{language}\n(.*?)```", text, re.DOTALL)


def test_examples_run(tmp_path: Path) -> None:
    Image.fromarray(load_digits()["test"].pixels(0)).save(tmp_path / "digit.png")
    python = f'"{sys.executable}"'
    (shell,), (program,) = examples("sh"), examples("python")
    for line in shell.splitlines():
        command = line.replace("squeezenet", f"{python} -m squeezenet", 1)
        command = command.replace("train digits", "train digits --epochs 15")
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, capture_output=True, text=True, env=os.environ
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        if " eval " in command:
            assert float(done.stdout.split()[1].rstrip("%")) > 85
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] in "0123456789"


def test_every_command_is_in_the_readme() -> None:
    from squeezenet.cli.app import app

    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for name in app:
        assert name.startswith("-") or f"squeezenet {name}" in text


def test_no_dependency_on_torchvision() -> None:
    source = "".join(p.read_text(encoding="utf-8") for p in (REPOSITORY / "src").rglob("*.py"))
    assert not re.search(r"^\s*(import|from) torchvision", source, re.MULTILINE)
