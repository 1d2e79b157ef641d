"""Attacks by folders: links that writing would follow, and run folders from others."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

from attack import HOME, PROOF, Attack
from images import png
from models import VECTORS

PRECIOUS = "precious"
_MODEL = str(VECTORS / "accept" / "folded.sqz")
_TINY = ["--arch", "squeezenet_tiny", "--max-steps", "2", "--threads", "1", "--device", "cpu"]


def attacks() -> list[Attack]:
    """Return all attacks by folders."""
    return [*_results(), *_runs()]


def _results() -> list[Attack]:
    return [
        Attack(
            name="export: link to a folder",
            goal="writing into a folder of the victim, by a link at a name that is easy to guess",
            defence="a folder of results may be no link",
            make=_export_link,
            message="is a symbolic link",
            exit_code=2,
        ),
        Attack(
            name="export: link among the files",
            goal="overwriting a file of the victim, by a link in a folder that looks like ours",
            defence="no file of results may be a link, and temporary files are renamed over links",
            make=_export_inner_link,
            message="Makefile: is a link",
            exit_code=2,
        ),
        Attack(
            name="report: folder of somebody else",
            goal="loss of a model card that was written by hand",
            defence="only files that `SHA256SUMS` lists, and that have not changed, are replaced",
            make=_report_card,
            message="exists already",
            exit_code=2,
        ),
        Attack(
            name="train: temporary files of others",
            goal="loss of hidden files in a folder that is named by mistake",
            defence="a folder is looked at before anything in it is removed, and then only "
            "temporary files with our mark are",
            make=_train_notes,
            message="is not empty and holds no run",
            exit_code=2,
        ),
        Attack(
            name="convert: link as the output",
            goal="overwriting a file of the victim, by a link at the name of the output",
            defence="the link is replaced, not the file that it names",
            make=_convert_link,
            message="bytes",
            exit_code=0,
        ),
    ]


def _runs() -> list[Attack]:
    return [
        Attack(
            name="run: link to checkpoints of another run",
            goal="loss of another run's checkpoints, which training would remove as old ones",
            defence="no file of a run folder may be a link",
            make=_run_with_link,
            message="checkpoints: is a symbolic link",
            exit_code=2,
        ),
        Attack(
            name="run: nested settings",
            goal="a crash by JSON that is nested a hundred thousand times",
            defence="settings carry a checksum and have at most 1 MB; nesting is an error like any "
            "other",
            make=_run_with_settings(b"[" * 100_000),
            message="run.json: is damaged",
        ),
        Attack(
            name="run: huge settings",
            goal="memory exhaustion by settings of 8 GB, as a sparse file",
            defence="at most 1 MB is read",
            make=_run_with_settings(b"", size=1 << 33),
            message="run.json: is damaged",
        ),
        Attack(
            name="run: metrics in one line of 1 GB",
            goal="memory exhaustion while the training is resumed",
            defence="at most 16 MB of metrics are read, in lines of at most 4 KB",
            make=_run_with_metrics,
            message="best top-1",
            exit_code=0,
        ),
        Attack(
            name="run: code in a checkpoint",
            goal="execution of a command when training goes on",
            defence="a checkpoint is read as data, whatever its checksum says",
            make=_run_with_code,
            message="is no checkpoint of a training",
        ),
        Attack(
            name="run: checkpoint that takes hours to hash",
            goal="exhaustion of time by a tuple of tuples of tuples, each used twice in the next",
            defence="keys of a checkpoint are texts and small numbers",
            make=_run_with_hash_bomb,
            message="is no checkpoint of a training",
        ),
        Attack(
            name="run: endless checkpoint",
            goal="exhaustion of time by a checkpoint of terabytes, as a sparse file",
            defence="a checkpoint has at most 8 GB, and the size is checked before reading",
            make=_endless_checkpoint,
            message="none of 1 checkpoints can be read",
        ),
    ]


def _precious(folder: Path) -> Path:
    """Make a folder with a file of the victim in it."""
    (folder / HOME).mkdir()
    (folder / HOME / PRECIOUS).write_text(PRECIOUS)
    return folder / HOME


def _export(out: Path) -> list[str]:
    return ["export", "default", "--to", "c", "--out", str(out)]


def _export_link(folder: Path) -> list[str]:
    home = _precious(folder)
    (home / "empty").mkdir()
    (folder / "c").symlink_to(home / "empty")
    return _export(folder / "c")


def _export_inner_link(folder: Path) -> list[str]:
    from squeezenet.cli.app import run as squeezenet

    home, out = _precious(folder), folder / "c"
    assert squeezenet(_export(out)) == 0
    (out / "Makefile").unlink()
    (out / "Makefile").symlink_to(home / PRECIOUS)
    return _export(out)


def _report_card(folder: Path) -> list[str]:
    home = _precious(folder)
    (home / "MODEL_CARD.md").write_text(PRECIOUS)
    for name in ("cat", "dog"):
        (folder / "data" / name).mkdir(parents=True)
        (folder / "data" / name / "0.png").write_bytes(png(8, 8, bytes(72)))
    return ["report", "default", str(folder / "data"), "--out", str(home)]


def _train_notes(folder: Path) -> list[str]:
    home = _precious(folder)
    (home / ".notes.tmp").write_text(PRECIOUS)
    return _train(home)


def _convert_link(folder: Path) -> list[str]:
    home = _precious(folder)
    (folder / "out.sqz").symlink_to(home / PRECIOUS)
    return ["convert", _MODEL, str(folder / "out.sqz")]


def _train(out: Path) -> list[str]:
    return ["train", "digits", "--out", str(out), *_TINY]


def _unfinished_run(folder: Path) -> tuple[Path, list[str]]:
    """Train, and make the run unfinished."""
    from squeezenet.cli.app import run as squeezenet

    run = folder / "run"
    assert squeezenet(_train(run)) == 0
    (run / "result.json").unlink()
    return run, _train(run)


def _run_with_link(folder: Path) -> list[str]:
    run, command = _unfinished_run(folder)
    home = _precious(folder)
    (run / "checkpoints").rename(home / "checkpoints")
    (run / "checkpoints").symlink_to(home / "checkpoints")
    return command


def _run_with_settings(text: bytes, size: int | None = None) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "run").mkdir()
        with (folder / "run" / "run.json").open("wb") as file:
            file.write(text)
            file.truncate(size)
        return _train(folder / "run")

    return make


def _run_with_metrics(folder: Path) -> list[str]:
    run, command = _unfinished_run(folder)
    with (run / "metrics.jsonl").open("wb") as file:
        file.truncate(1 << 30)
    return command


class _Code:
    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self._proof,)


def _run_with_checkpoint(folder: Path, pickled: bytes) -> list[str]:
    """Replace the checkpoint by another, with a right checksum."""
    from squeezenet.sealed_files import write_sealed

    run, command = _unfinished_run(folder)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    [path] = (run / "checkpoints").iterdir()
    write_sealed(path, lambda file: file.write(content.getvalue()))
    return command


def _run_with_code(folder: Path) -> list[str]:
    return _run_with_checkpoint(folder, pickle.dumps(_Code(folder / PROOF), protocol=2))


def _run_with_hash_bomb(folder: Path) -> list[str]:
    # [{key: 1}], where key is (), then 60 times (key, key).
    return _run_with_checkpoint(folder, b"\x80\x02]})" + b"2\x86" * 60 + b"K\x01sa.")


def _endless_checkpoint(folder: Path) -> list[str]:
    run, command = _unfinished_run(folder)
    [path] = (run / "checkpoints").iterdir()
    with path.open("wb") as file:
        file.truncate(1 << 42)
    return command
