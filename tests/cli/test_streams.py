"""Streams that are closed, full, absent, or of a narrow encoding; CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from squeezenet.arch.record import ModelRecord
from squeezenet.cli.app import COMMANDS
from squeezenet.cli.text import csv_text
from squeezenet.codec import container
from tests.cli.running import Capture, failure, output
from tests.conftest import random_model

needs_posix = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (16, 12), (20, 90, 200)).save(path)
    return path


def shell(line: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which ``$S`` is the command."""
    start = f'set -o pipefail; S="{sys.executable} -m squeezenet"; '
    return subprocess.run(
        ["bash", "-c", start + line],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=300,
    )


@needs_posix
@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-", "2</dev/null"])
def test_output_without_the_other_streams(picture: Path, closed: str) -> None:
    """Messages are lost, output is not, and none gets into the other stream."""
    done = shell(f"$S predict a.png missing.png --format csv {closed}", picture.parent)
    assert done.returncode == 0
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["image", "a.png"]
    failed = shell(f"$S info missing {closed}", picture.parent)
    assert failed.returncode == 2 and failed.stdout == ""


@needs_posix
@pytest.mark.parametrize(
    "arguments",
    ["info default", "predict a.png", "predict a.png --json", "--help", "--version", "fetch"],
)
@pytest.mark.parametrize("closed", [">&-", "| true", "<&- >&- 2>&-"])
def test_nobody_reads_the_output(picture: Path, arguments: str, closed: str) -> None:
    done = shell(f"$S {arguments} {closed}", picture.parent)
    assert done.returncode == 0, done.stderr
    assert not done.stdout and "error" not in done.stderr and "Traceback" not in done.stderr


@needs_posix
def test_help_of_every_command_into_a_closed_pipe(tmp_path: Path) -> None:
    for command in list(COMMANDS)[::3]:
        done = shell(f"$S {command} --help | true", tmp_path)
        assert (done.returncode, done.stderr) == (0, "")


@needs_posix
def test_a_closed_pipe_of_messages_stops_nothing(picture: Path) -> None:
    """The line about the model cannot be written; the prediction and its exit code come."""
    done = shell("$S predict a.png --format csv 2> >(exec 0<&-)", picture.parent)
    assert done.returncode == 0 and "a.png" in done.stdout


@needs_full
@pytest.mark.parametrize("arguments", ["info default", "predict a.png --json", "--help"])
def test_a_full_disk_is_one_line(picture: Path, arguments: str) -> None:
    done = shell(f"$S {arguments} >/dev/full", picture.parent)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "squeezenet: standard output: the disk is full"


@needs_full
def test_messages_that_do_not_fit_stop_nothing(picture: Path) -> None:
    done = shell("$S predict a.png --format csv 2>/dev/full", picture.parent)
    assert done.returncode == 0 and "a.png" in done.stdout


@needs_posix
def test_a_missing_descriptor_is_never_that_of_a_file(picture: Path) -> None:
    """Messages written to descriptor 2 would be in the first file that is opened."""
    program = (
        "import os, sys; from squeezenet.cli.streams import prepare_streams; prepare_streams(); "
        "file = open('opened', 'wb'); os.write(2, b'message'); print('message', file=sys.stderr); "
        "os.system('echo message >&2'); os._exit(file.fileno())"
    )
    done = shell(f'{sys.executable} -c "{program}" 2>&-', picture.parent)
    assert done.returncode > 2
    assert (picture.parent / "opened").read_bytes() == b""


@needs_posix
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_training_without_streams(
    image_folder: Callable[..., Path], tmp_path: Path, closed: str
) -> None:
    """With worker processes and a report; no file has got a message."""
    data = image_folder(cat=4, dog=4)
    options = "--arch squeezenet_tiny --max-steps 2 --threads 1 --workers 1 --out run"
    done = shell(f"$S train {data} {options} {closed}", tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    run = tmp_path / "run"
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        assert isinstance(json.loads(line), dict)
    assert json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert (run / "report" / "MODEL_CARD.md").is_file()


def test_streams_that_do_not_exist(picture: Path) -> None:
    """As under pythonw: the streams are None."""
    program = (
        "import sys; sys.stdin = sys.stdout = sys.stderr = None; "
        f"sys.argv = ['squeezenet', 'predict', {str(picture)!r}, 'missing.png']; "
        "from squeezenet.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@needs_posix
def test_a_pipe_that_does_not_block(picture: Path) -> None:
    """Output waits for its reader."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen(
        [sys.executable, "-m", "squeezenet", "info", "squeezenet1_0", "--json"], stdout=writer
    ) as process:
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as file:
            assert json.load(file)["name"] == "squeezenet1_0"
    assert process.returncode == 0


NAMES = ["é ½", "犬", "🦆", "¥", '"q"', "a\\b"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii", "shift_jis", "latin-1", "cp437"])
@pytest.mark.parametrize("form", ["--json", "--format jsonl"])
def test_json_in_every_encoding(
    tmp_path: Path, tiny_record: ModelRecord, encoding: str, form: str
) -> None:
    """Class names, and file names that are not UTF-8, come back from any stream."""
    import dataclasses

    names = (*NAMES, *tiny_record.class_names[len(NAMES) :])
    record = dataclasses.replace(tiny_record, class_names=names)
    (tmp_path / "m.sqz").write_bytes(container.encode(random_model(record)))
    image = os.fsdecode(b"caf\xe9 \xc3\xa9.png") if os.name == "posix" else "caf\xe9.png"
    Image.new("RGB", (16, 12)).save(tmp_path / image)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "squeezenet", "predict", "m.sqz", image),
            *("--top", str(len(names)), *form.split()),
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = [done.stdout] if form == "--json" else done.stdout.splitlines()
    for line in lines:
        for value in (json.loads(line.decode(encoding)), json.loads(line.decode("utf-8"))):
            predicted = value["predictions"][0] if form == "--json" else value
            assert predicted["image"] == image
            assert {each["class"] for each in predicted["top"]} == set(names)


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\uff1d"])
def test_a_cell_is_no_formula(first: str) -> None:
    assert csv_text(f"{first}cmd") == f"'{first}cmd"
    assert csv_text(f"a{first}") == f"a{first}" and csv_text("") == ""


def test_csv_for_spreadsheets(
    capsys: Capture, tmp_path: Path, tiny_record: ModelRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File names and class names get an apostrophe; --raw leaves them."""
    import dataclasses

    names = tuple(f"@{name},x" for name in tiny_record.class_names)
    model = random_model(dataclasses.replace(tiny_record, class_names=names))
    (tmp_path / "m.sqz").write_bytes(container.encode(model))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (16, 12)).save("=1+2.png")
    arguments = "predict", "m.sqz", "=1+2.png", "--format", "csv"
    for more, mark in (((), "'"), (("--raw",), "")):
        _, row = csv.reader(io.StringIO(output(capsys, *arguments, *more)))
        assert row[0] == f"{mark}=1+2.png" and row[1].startswith(f"{mark}@c")
        assert 0 < float(row[2]) <= 1
    line = failure(capsys, 2, "predict", "m.sqz", "=1+2.png", "--raw")
    assert "--raw is for --format csv, found --format table" in line
