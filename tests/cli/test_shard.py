"""``squeezenet shard``, and commands on what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezenet.cli.app import run as cli
from tests.cli.running import Capture, as_json, failure, output

TRAIN = ["--arch", "squeezenet_tiny", "--epochs", "2", "--threads", "1", "--device", "cpu"]


@pytest.fixture
def root(image_folder: Callable[..., Path], tmp_path: Path) -> Path:
    image_folder(tmp_path / "set" / "train", a=20, b=16)
    image_folder(tmp_path / "set" / "val", a=6, b=5)
    (tmp_path / "set" / "train" / "a" / "notes.txt").write_text("notes")
    return tmp_path / "set"


def shard(capsys: Capture, root: Path, out: Path) -> dict[str, object]:
    return as_json(capsys, "shard", root, out, "--shard-size", "12K", "--workers", "0")


def test_from_a_folder_to_an_evaluation(capsys: Capture, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    result = shard(capsys, root, out)
    assert result == {
        "out": str(out), "parts": ["train", "val"], "images": 47, "classes": 2, "skipped": 0,
        "shards": len(list(out.rglob("*.tar"))), "not_used": {".txt": 1},
        "bytes": sum(path.stat().st_size for path in out.rglob("*.tar")),
    }  # fmt: skip
    again = output(capsys, "shard", root, out, "--shard-size", "12K", "--workers", "0")
    assert again.startswith(f"{out}: 47 images of 2 classes in {result['shards']} shards in train/")
    run = tmp_path / "run"
    trained = as_json(capsys, "train", out, "--out", run, "--workers", "0", *TRAIN)
    assert (trained["train_images"], trained["val_images"], trained["skipped"]) == (36, 11, 0)
    on_shards, on_folder = (as_json(capsys, "eval", run, path) for path in (out, root))
    # Counts are the folder's; its extra file is not in the shards.
    assert on_shards | {"not_used": {".txt": 1}} == on_folder | {"not_used": {".txt": 1}}
    assert on_shards["images"] == 11


def test_a_lost_shard_is_one_line(capsys: Capture, root: Path, tmp_path: Path) -> None:
    out, run = tmp_path / "shards", tmp_path / "run"
    shard(capsys, root, out)
    lost = out / "train" / "shard-000001.tar"
    shards = json.loads((out / "train" / "index.json").read_bytes())["shards"]
    lost.unlink()
    capsys.readouterr()
    arguments = ["train", out, "--workers", "0", "--json", *TRAIN]
    assert cli([str(each) for each in (*arguments, "--out", run)]) == 0
    captured = capsys.readouterr()
    # An epoch leaves out the images that are fewer than a batch.
    assert 1 < json.loads(captured.out)["skipped"] <= shards[1]["num_samples"]
    lines = [line for line in captured.err.splitlines() if "shard-000001" in line]
    assert lines == [f"skipped images of {lost}: no such file"]
    line = failure(capsys, 1, *arguments, "--out", tmp_path / "strict", "--strict")
    assert line.startswith(f"squeezenet: {lost}: no such file; its image ")


def test_wrong_use(capsys: Capture, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    for code, words, arguments in (
        (2, "OUT is missing", [root]),
        (2, "no such folder", [tmp_path / "none", out]),
        (2, "--classes is for --index", [root, out, "--classes", "names.txt"]),
        (2, "--shard-size 'much', expected a number of bytes", [root, out, "--shard-size", "much"]),
        (2, "expected 4096 or more", [root, out, "--shard-size", "1K"]),
        (2, "--seed -1, expected", [root, out, "--seed", "-1"]),
        (2, "where it would be a class", [root, root / "shards"]),
        (2, "where it would be a class", [root, root]),
        (2, f"leave {out} out", [root, out, "--index"]),
        (1, "no tars inside", ["--index", root]),
    ):
        assert words in failure(capsys, code, "shard", *arguments)
    shard(capsys, root, tmp_path / "made")
    line = failure(capsys, 2, "shard", tmp_path / "made", out)
    assert f"{tmp_path}/made/train: has shards already" in line
    assert not out.exists() and {path.name for path in root.iterdir()} == {"train", "val"}


def test_a_part_that_cannot_be_written_stops_all(
    capsys: Capture, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    (out / "val").mkdir(parents=True)
    (out / "val" / "mine.txt").write_text("mine")
    line = failure(capsys, 2, "shard", root, out, "--workers", "0", "--list-unused")
    assert "is not empty and holds no shards" in line
    assert not (out / "train").exists()


def test_classes_have_one_number_in_all_parts(
    capsys: Capture, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = tmp_path / "set"
    image_folder(root / "train", a=3, b=3, c=3)
    image_folder(root / "val", c=2)
    shard(capsys, root, tmp_path / "shards")
    index = json.loads((tmp_path / "shards" / "val" / "index.json").read_bytes())
    assert index["class_names"] == ["a", "b", "c"]
    image_folder(root / "test", z=2)
    line = failure(capsys, 1, "shard", root, tmp_path / "other")
    assert "class 'z' is not in" in line


def test_an_index_for_tars_of_others(capsys: Capture, root: Path, tmp_path: Path) -> None:
    out, others = tmp_path / "shards", tmp_path / "others"
    shard(capsys, root, out)
    others.mkdir()
    for path in (out / "train").glob("*.tar"):
        path.rename(others / path.name)
    assert "squeezenet shard --index" in failure(capsys, 2, "train", others, *TRAIN)
    (tmp_path / "names.txt").write_text("a\nb\n")
    result = as_json(capsys, "shard", "--index", others, "--classes", tmp_path / "names.txt")
    assert (result["images"], result["classes"], result["parts"]) == (36, 2, [])
    assert (others / "index.bin").read_bytes() == (out / "train" / "index.bin").read_bytes()
    trained = as_json(capsys, "train", others, "--out", tmp_path / "run", "--workers", "0", *TRAIN)
    assert trained["train_images"] == 32
