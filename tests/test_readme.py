"""The command blocks of the README and the tutorials run as they are written."""

from __future__ import annotations

import io
import os
import pickle
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from squeezenet.cli.app import app
from squeezenet.data.digits import load_digits
from squeezenet.export.web import missing_builds
from tests.conftest import REPOSITORY

README, FRONT = "README.md", "docs/index.md"
TUTORIALS = ("docs/tutorials/photos.md", "docs/tutorials/imagenet_weights.md")
PAPER = "docs/tutorials/paper.md"
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(document: str) -> list[tuple[str, str]]:
    """(language, text) of every command block of a document, in order."""
    return _BLOCK.findall((REPOSITORY / document).read_text(encoding="utf-8"))


def of_digits(text: str) -> bool:
    return "digits" in text


def installs(text: str) -> bool:
    return "pip install" in text


def serves(line: str) -> bool:
    return line.startswith("squeezenet serve")


def is_of_the_web(line: str) -> bool:
    return serves(line) or "--to web" in line


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with what the documents take for granted: photos, new ones, and a digit.

    ``squeezenet`` in its ``bin`` is the command, with published weights of our own making in the
    place of the ones on the network.
    """
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name, colour in (("cat", (200, 90, 60)), ("raccoon", (60, 90, 200))):
            for i in range(12 if split == "train" else 3):
                folder = tmp_path / "photos" / split / name
                folder.mkdir(parents=True, exist_ok=True)
                noise = rng.integers(-50, 50, (64, 80, 3))
                pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.jpg")
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(tmp_path / "photos/val/cat/0.jpg", new / "a.jpg")
    shutil.copy(new / "a.jpg", tmp_path / "photo.jpg")
    (tmp_path / "demo").mkdir()
    Image.fromarray(load_digits()["test"].pixels(0)).save(tmp_path / "demo" / "digit0_is_1.png")
    (tmp_path / "bin").mkdir()
    for name, arguments in (("squeezenet", "-m tests.with_published"), ("python", "")):
        command = tmp_path / "bin" / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def environment_in(folder: Path) -> dict[str, str]:
    return os.environ | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "BROWSER": "true",  # a command that opens nothing
    }


def run(text: str, language: str, folder: Path) -> str:
    """Run a block as it is written; return what it printed."""
    environment = environment_in(folder)
    command = ["sh", "-e", "-c", text] if language == "sh" else [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def visit(line: str, folder: Path) -> None:
    """Run a command that serves a page until Ctrl-C, at a free port; look at the page."""
    with subprocess.Popen(
        [*shlex.split(line), "--port", "0"], cwd=folder, env=environment_in(folder), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as server:  # fmt: skip
        limit = threading.Timer(60, server.kill)
        limit.start()
        try:
            assert server.stdout is not None
            said = ""
            while (address := re.search(r"http://[\w.:\[\]-]+/?", said)) is None:
                line_said = server.stdout.readline()
                assert line_said, f"{line}: ended without an address\n{said}"
                said += line_said
            with urllib.request.urlopen(address[0], timeout=30) as page:
                assert b"<html" in page.read()
            server.send_signal(signal.SIGINT)
            assert server.wait(30) in (0, 130)
        finally:
            limit.cancel()
            server.kill()


def test_blocks_of_the_digits(workplace: Path) -> None:
    outputs = [
        run(text, language, workplace) for language, text in blocks(README) if of_digits(text)
    ]
    assert len(outputs) == 3
    top1 = re.search(r"top-1 (\d+\.\d)%  top-5", outputs[0])
    assert top1 and float(top1[1]) > 95
    assert outputs[1].split()[0] in "0123456789"
    assert outputs[2].splitlines()[-5].split()[-1] == "1"


@pytest.mark.slow
@pytest.mark.parametrize("document", [README, *TUTORIALS])
def test_blocks_of_photos(workplace: Path, document: str) -> None:
    for language, text in blocks(document):
        if of_digits(text) or installs(text):
            continue
        if language == "python":
            run(text, language, workplace)
            continue
        has_web = not missing_builds()
        lines = [line for line in text.splitlines() if has_web or not is_of_the_web(line)]
        run("\n".join(line for line in lines if not serves(line)), language, workplace)
        for line in filter(serves, lines):
            visit(line, workplace)
    [report] = workplace.glob("*/report/MODEL_CARD.md")
    assert report.is_file()
    [compressed] = workplace.glob("*.sqz")
    assert compressed.stat().st_size < 500_000


@pytest.mark.slow
def test_the_installation(tmp_path: Path) -> None:
    """In a copy of what git knows, with nothing installed but Python."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source, target = REPOSITORY / name, tmp_path / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target, follow_symlinks=False)
    [(language, text)] = [block for block in blocks(README) if installs(block[1])]
    assert language == "sh"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        ["sh", "-e", "-c", text], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]


def commands_of(document: str) -> list[str]:
    """The lines of all ``sh`` blocks."""
    texts = [text for language, text in blocks(document) if language == "sh"]
    return [line for text in texts for line in text.splitlines()]


def test_every_block_is_run() -> None:
    """A block is the installation's, the digits' or the photos', so one of the tests has it."""
    for document in (README, *TUTORIALS):
        for language, text in blocks(document):
            known = (
                installs(text) or of_digits(text) or re.search("photo|tuned|squeezenet1_1", text)
            )
            assert known, (language, text)
    for other in ("docs/architecture.md", "docs/compression.md", "docs/results.md"):
        assert not [text for language, text in blocks(other) if language == "sh"], other


def test_the_front_page_has_the_commands_that_are_run() -> None:
    run_elsewhere = {line for document in (README, *TUTORIALS) for line in commands_of(document)}
    assert [line for line in commands_of(FRONT) if line not in run_elsewhere] == []


def test_a_page_with_own_pictures_takes_at_most_ten_commands() -> None:
    """Installation, training, compression, page: what the front page has, in a clone."""
    lines = commands_of(FRONT)
    commands = [part for line in lines for part in line.split(" && ")]
    assert serves(lines[-1]) and "--to web" in lines[-2]
    assert len(commands) + len(["git clone", "cd"]) <= 10


def test_commands_of_the_how_to_pages_have_options_that_exist() -> None:
    pages = sorted((REPOSITORY / "docs" / "how-to").glob("*.md"))
    lines = [line for page in pages for line in commands_of(str(page.relative_to(REPOSITORY)))]
    ours = [shlex.split(line, comments=True) for line in lines if line.startswith("squeezenet ")]
    assert len(ours) >= 5
    for _, *words in ours:
        app.parse_args(words, print_error=False, exit_on_error=False)


def test_the_readme_is_short() -> None:
    lines = (REPOSITORY / README).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    first_screen = "\n".join(lines[:20])
    assert "![" in first_screen and "**" in first_screen and "pip install" in first_screen


def test_links_lead_somewhere() -> None:
    for document in ("README.md", "CONTRIBUTING.md", "TESTING.md", *_documents()):
        path = REPOSITORY / document
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{document}: {target}"


def _documents() -> list[str]:
    return [str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").rglob("*.md")]


def test_every_command_is_in_the_readme() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for name in app:
        assert name.startswith("-") or f"squeezenet {name}" in text


def test_no_dependency_on_torchvision() -> None:
    source = "".join(p.read_text(encoding="utf-8") for p in (REPOSITORY / "src").rglob("*.py"))
    assert not re.search(r"^\s*(import|from) torchvision", source, re.MULTILINE)


def put_small_cifar(folder: Path) -> None:
    """Write an archive as CIFAR-10 is published, with 300 pictures: a colour for each class."""
    rng = np.random.default_rng(0)
    names = [f"class{k}".encode() for k in range(10)]
    contents: dict[str, object] = {"batches.meta": {b"label_names": names}}
    for batch in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        labels = [k % 10 for k in range(50)]
        noise = rng.integers(-60, 60, (50, 3, 1024))
        colour = np.array([[40 + 20 * k, 240 - 20 * k, 128] for k in labels])[:, :, None]
        contents[batch] = {
            b"data": (colour + noise).clip(0, 255).astype(np.uint8).reshape(50, 3072),
            b"labels": labels,
            b"filenames": [f"{batch}_{k}.png".encode() for k in range(50)],
        }
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name, content in contents.items():
            data = pickle.dumps(content)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def reduced(line: str) -> str:
    """A command of the paper's tutorial as it is, but for a short time on few pictures."""
    for option, value in (("epochs", 1), ("retrain-epochs", 1), ("train-images", 100)):
        line = re.sub(rf"--{option} \d+", f"--{option} {value}", line)
    if "explore search" in line:
        return f"{line} --trials 2 --train-images 100"
    return f"{line} --seeds 1" if "explore" in line and "table2" not in line else line


@pytest.mark.slow
def test_the_paper_in_a_reduced_form(workplace: Path) -> None:
    put_small_cifar(workplace)
    for language, text in blocks(PAPER):
        if language == "python":
            run(text, language, workplace)
            assert len(list(workplace.glob("cifar10/train/class*/*.png"))) == 250
        elif not installs(text):
            run("\n".join(map(reduced, text.splitlines())), language, workplace)
    pages = {path.parent.parent.name for path in workplace.glob("*/report/*.html")}
    assert pages == {"sr", "pct3x3", "table3", "table2", "search"}
    rows = (workplace / "table2" / "report" / "table.csv").read_text().splitlines()
    assert len(rows) == 9
