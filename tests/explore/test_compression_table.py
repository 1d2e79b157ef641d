"""``squeezenet explore table2``: all rows of a small table, and how it goes on."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import squeezenet
from squeezenet.arch.network_file import network_json
from squeezenet.arch.spec import AlexNetSpec, ConvSpec, PoolSpec
from squeezenet.cli.app import run as cli
from squeezenet.errors import StudyError, UsageError
from squeezenet.explore.compression_table import networks
from squeezenet.explore.compression_table.approaches import APPROACHES
from squeezenet.explore.compression_table.options import (
    CompressionTableDefinition,
    CompressionTableOptions,
    define_compression_table,
)
from squeezenet.progress import SilentProgress
from tests.cli.running import Capture, as_json, failure, output

ALEXNET = AlexNetSpec(
    name="alexnet_small",
    convs=(
        ConvSpec(out_channels=8, kernel=3, padding=1),
        ConvSpec(out_channels=16, kernel=3, padding=1, groups=2),
    ),
    pools=(PoolSpec(after="conv1"), PoolSpec(after="conv2")),
    hidden=(64, 64),
    num_classes=10,
    input_channels=1,
    input_size=(8, 8),
    batch_norm=True,
)
SMALL = ("--epochs", 2, "--train-images", 200, "--retrain-epochs", 1, "--effort", "low")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished table; beside it is the network of its baseline."""
    folder = tmp_path_factory.mktemp("table 2")
    (folder / "alexnet.json").write_text(network_json(ALEXNET))
    assert cli([str(word) for word in command(folder / "t2")]) == 0
    return folder / "t2"


def command(out: Path, *more: object) -> list[object]:
    baseline = out.with_name("alexnet.json")
    return ["explore", "table2", "digits", "--out", out, "--baseline", baseline, *SMALL, *more]


def test_a_table_has_the_papers_rows_and_ours(table: Path, capsys: Capture) -> None:
    found = as_json(capsys, *command(table))
    rows: Any = found["rows"]
    assert [row["name"] for row in rows] == [each.name for each in APPROACHES]
    assert found["measured_on"] == "digits, its part test/"
    sizes = {row["name"]: row["bytes"] for row in rows}
    assert sizes["alexnet"] / 6 < sizes["alexnet-svd"] <= sizes["alexnet"] / 5
    assert sizes["alexnet-pruned"] < sizes["alexnet"] * 0.11 * 36 / 32 + 2000
    assert sizes["alexnet-dc"] < sizes["alexnet-pruned"] / 2
    assert sizes["squeezenet-rd"] < sizes["squeezenet-dc6"] < sizes["squeezenet-dc8"]
    assert all(row["images"] == rows[0]["images"] > 400 for row in rows)
    for row in rows:
        base = next((each for each in rows if each["name"] == row["base"]), None)
        if base is None:
            assert row["difference"] is None
        else:
            assert row["difference"] == pytest.approx(row["top1"] - base["top1"], abs=1e-3)
        assert row["reduction"] == pytest.approx(sizes["alexnet"] / row["bytes"], rel=1e-3)
    paper = [row["paper"] for row in rows]
    assert paper[3] == {"top1": 57.2, "top5": 80.3, "megabytes": 6.9} and paper[-1] is None


def test_its_networks_open_and_measure_the_same(table: Path, capsys: Capture) -> None:
    rows: Any = as_json(capsys, *command(table))["rows"]
    by_name = {row["name"]: row for row in rows}
    files = {
        "alexnet": table / "trials" / "alexnet",
        "alexnet-pruned": table / "files" / "alexnet-pruned.safetensors",
        "alexnet-dc": table / "files" / "alexnet-dc.sqz",
        "squeezenet": table / "trials" / "squeezenet",
        "squeezenet-dc6": table / "files" / "squeezenet-dc6.sqz",
        "squeezenet-rd": table / "files" / "squeezenet-rd.sqz",
    }
    for name, file in files.items():
        measured = as_json(capsys, "eval", file, "digits")
        assert measured["top1"] == pytest.approx(by_name[name]["top1"], abs=1e-3), name
    assert files["alexnet-dc"].stat().st_size == by_name["alexnet-dc"]["bytes"]


def test_its_report_needs_nothing_else(table: Path) -> None:
    report = table / "report"
    page = (report / "table.html").read_text()
    assert "default-src 'none'" in page and not re.search(r"https?://", page)
    assert "squeezenet explore table2 digits --out" in page
    assert "57.2/80.3, 6.9 MB" in page
    with (report / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [each.name for each in APPROACHES]
    assert float(rows[0]["reduction"]) == 1
    for name in ("sizes.png", "sizes.svg"):
        assert (report / name).stat().st_size > 1000


def test_the_command_prints_a_table(table: Path, capsys: Capture) -> None:
    text = output(capsys, *command(table))
    assert "Deep Compression, 5-8 bit" in text and "rd (ours)" in text
    assert str(table / "report" / "table.html") in text.replace("\n", "")


def test_a_row_that_is_lost_is_made_from_its_network(
    table: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No finished training or compression is done again."""
    before = json.loads((table / "rows" / "alexnet-svd.json").read_text())
    for name in ("alexnet-svd", "squeezenet-dc8"):
        (table / "rows" / f"{name}.json").unlink()

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("made again")

    for work in ("compress_model", "pruned", "with_low_rank"):
        monkeypatch.setattr(networks, work, never)
    rows: Any = as_json(capsys, *command(table))["rows"]
    assert len(rows) == len(APPROACHES)
    assert json.loads((table / "rows" / "alexnet-svd.json").read_text()) == before


def test_bad_options_are_one_line(table: Path, tmp_path: Path, capsys: Capture) -> None:
    line = failure(capsys, 1, *command(table, "--batch-size", 16))
    assert "holds a study with other" in line or "holds a study with" in line
    line = failure(capsys, 2, *command(tmp_path / "x", "--seeds", 2))
    assert "--seeds is not for table2" in line
    line = failure(
        capsys, 2, *command(tmp_path / "x")[:4], tmp_path / "x", "--baseline", "squeezenet1_0"
    )
    assert "--baseline squeezenet1_0: is no AlexNet" in line
    line = failure(capsys, 2, *command(tmp_path / "x")[:4], tmp_path / "x", "--arch", "alexnet")
    assert "--arch alexnet: is no SqueezeNet" in line
    line = failure(capsys, 2, "explore", "sr", "digits", "--out", tmp_path / "x", "--effort", "low")
    assert "--effort is not for sr" in line
    assert not (tmp_path / "x").exists()
    with pytest.raises(UsageError, match="--retrain-epochs 0, expected at least 1"):
        squeezenet.compression_table("digits", out=tmp_path / "x", retrain_epochs=0)
    with pytest.raises(StudyError):
        squeezenet.compression_table("digits", out=table)


def test_the_images_decide_the_networks(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    small = image_folder(tmp_path / "small", size=(40, 36), a=8, b=8)
    large = image_folder(tmp_path / "large", size=(90, 70), a=8, b=8)
    chosen = [define(source) for source in ("digits", str(small), str(large))]
    names = [(each.alexnet.name, each.squeezenet.name) for each in chosen]
    assert names == [
        ("alexnet_cifar", "squeezenet_tiny"),
        ("alexnet_cifar", "squeezenet_cifar"),
        ("alexnet", "squeezenet1_0"),
    ]
    sizes = [(e.alexnet.input_size, e.squeezenet.input_size) for e in chosen]
    assert sizes == [((8, 8), (8, 8)), ((36, 36), (36, 36)), ((227, 227), (224, 224))]
    # The baseline has the same aids as our network.
    assert all(each.alexnet.batch_norm for each in chosen)
    assert not any(conv.lrn for conv in chosen[2].alexnet.convs)
    assert chosen[0].alexnet.input_channels == 1 and len(chosen[0].alexnet.pools) == 2


def define(source: str, **options: Any) -> CompressionTableDefinition:
    return define_compression_table(
        source, "out", CompressionTableOptions(**options), SilentProgress()
    )


def test_networks_that_cannot_be_are_refused_before_any_training(tmp_path: Path) -> None:
    file = tmp_path / "alexnet.json"
    file.write_text(network_json(dataclasses.replace(ALEXNET, hidden=(8, 8))))
    with pytest.raises(UsageError, match=r"of rank 1, expected at most .* too large for SVD"):
        define("digits", baseline=str(file))
    file.write_text(network_json(dataclasses.replace(ALEXNET, input_size=(8, 9))))
    with pytest.raises(UsageError, match="its input is 8x9, expected a square one"):
        define("digits", baseline=str(file))
    with pytest.raises(UsageError, match="--effort best, expected one of low, medium, high"):
        define("digits", effort="best")


def test_other_test_images_are_another_table(image_folder: Callable[..., Path]) -> None:
    folder = image_folder(a=8, b=8, size=(32, 32))
    data = folder.with_name("data")
    shutil.copytree(folder, data / "train")
    without = define(str(data))
    shutil.copytree(folder, data / "test")
    with_test = define(str(data))
    (data / "test" / "a" / next((data / "test" / "a").iterdir()).name).unlink()
    fewer = define(str(data))
    settings = [each.settings["measured"] for each in (without, with_test, fewer)]
    assert settings[0] != settings[1] != settings[2]
    assert without.measured_on.endswith("held out from training")


def test_a_damaged_file_is_made_again(table: Path, capsys: Capture) -> None:
    rows: Any = as_json(capsys, *command(table))["rows"]
    for name in ("alexnet-pruned.safetensors", "squeezenet-dc6.sqz"):
        file = table / "files" / name
        file.write_bytes(file.read_bytes()[:-100])
    factors = table / "files" / "alexnet-svd.safetensors"
    content = bytearray(factors.read_bytes())
    content[len(content) // 2] ^= 1  # the lowest bit of one weight
    factors.write_bytes(content)
    for file in (table / "rows").iterdir():
        file.unlink()
    assert as_json(capsys, *command(table))["rows"] == rows
    assert not list((table / "work").iterdir())
