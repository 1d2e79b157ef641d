"""The page of a report: its figures are those of the files, and it needs nothing but itself."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import squeezenet
from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.arch.liveness import live_activation_bytes, peak_activation_bytes
from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.cli.app import run as cli
from squeezenet.codec.container import decode
from squeezenet.codec.sizes import layer_sizes
from squeezenet.errors import UsageError
from squeezenet.images.sets import ArrayImages
from squeezenet.report.history import read_history
from squeezenet.report.page import html_page
from squeezenet.report.page_confusions import mistakes_csv
from squeezenet.sealed_files import read_sealed_json, read_sealed_lines
from tests.report.test_report import measured, small_record


class Page(HTMLParser):
    """Text, tables (rows of cells), links and sources of a page; tags must be balanced."""

    VOID = ("meta", "img", "br", "line", "rect", "circle", "polyline", "wbr")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.tables: dict[str, list[list[str]]] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.rows: list[list[str]] = []
        self.caption = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows, self.caption = [], ""
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "caption" in self.open:
            self.caption += data
        elif "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def of(self, tag: str, name: str) -> list[str]:
        return [value for t, n, value in self.attributes if (t, n) == (tag, name)]

    def table(self, title: str) -> list[list[str]]:
        return next(rows for caption, rows in self.tables.items() if caption.startswith(title))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs of the digits, with its report."""
    out = tmp_path_factory.mktemp("page") / "run"
    squeezenet.train("digits", out=out, arch="squeezenet_tiny", epochs=2, device="cpu")
    return out


def read(file: Path) -> Page:
    return Page(file.read_text(encoding="utf-8"))


def test_the_figures_of_a_run(run: Path) -> None:
    """Those of metrics.jsonl and result.json."""
    page = read(run / "report" / "report.html")
    lines, _ = read_sealed_lines(run / "metrics.jsonl")
    val = [line for line in lines if line["kind"] == "val"]
    train = [line for line in lines if line["kind"] == "train"]
    rows = page.table("Every validation")
    assert rows[1:] == [
        [f"{line['epoch']:g}", f"{line['top1']:.2f}%", f"{line['top5']:.2f}%"] for line in val
    ]
    assert f"{train[-1]['loss']:.4f} at the end" in page.text
    result = read_sealed_json(run / "result.json")
    assert result is not None
    best = f"best {result['best_top1']:.2f}% after epoch {result['best_epoch']}"
    assert best in page.text
    assert f"{result['best_top1']:.2f}%" in page.text.partition("its 95% interval")[0]
    provenance = dict(row for row in page.table("What the file says") if len(row) == 2)
    assert provenance["run: steps"] == f"{result['steps']:,}"
    assert provenance["run: train_images"] == "1,167" and provenance["method"] == "trained"


def test_every_mistake_is_listed_and_counted(run: Path) -> None:
    page = read(run / "report" / "report.html")
    data = (run / "report" / "mistakes.csv").read_bytes()
    link = next(href for href in page.of("a", "href") if href.startswith("data:"))
    assert base64.b64decode(link.partition(",")[2]) == data
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    result = read_sealed_json(run / "result.json")
    assert result is not None
    wrong = round(result["val_images"] * (1 - result["best_top1"] / 100))
    assert len(rows) == wrong > 0 and f"{wrong} of {result['val_images']} images" in page.text
    matrix = [row[1:] for row in page.table("Images by class (rows)")[1:]]
    cells = [[int(cell or 0) for cell in row] for row in matrix]
    assert sum(map(sum, cells)) == result["val_images"]
    assert sum(cells[i][i] for i in range(10)) == result["val_images"] - wrong
    first = rows[0]
    assert cells[int(first["class"])][int(first["predicted"])] > 0
    assert sorted((float(row["probability"]) for row in rows), reverse=True) == [
        float(row["probability"]) for row in rows
    ]


def test_the_page_needs_nothing_else(run: Path) -> None:
    """No request can leave it, and every picture has a text."""
    page = read(run / "report" / "report.html")
    loaded = [v for t, n, v in page.attributes if n in ("src", "href", "srcset", "data", "action")]
    assert loaded and all(value.startswith(("#", "data:")) for value in loaded)
    html = (run / "report" / "report.html").read_text(encoding="utf-8")
    assert "url(" not in html and "@import" not in html and "<script" not in html
    assert "default-src 'none'" in page.of("meta", "content")[0]
    texts = page.of("img", "alt")
    assert len(texts) == len(page.of("img", "src")) > 0 and all(texts)
    assert len(page.of("svg", "aria-label")) == html.count("<svg ") > 0
    targets = set(page.of("section", "id"))
    assert {href[1:] for href in page.of("a", "href") if href.startswith("#")} == targets


def test_the_layers_of_a_compressed_file(run: Path, tmp_path: Path,
                                         capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """Sizes of the file, and what compress printed."""
    model, printed, out = tmp_path / "m.sqz", tmp_path / "m.json", tmp_path / "report"
    asked = ["--effort", "low", "--device", "cpu", "--target-bytes", "6000", "--json"]
    assert cli(["compress", str(run), "--data", "digits", "--out", str(model), *asked]) == 0
    text = capsys.readouterr().out
    printed.write_text(text)
    history = json.loads(text)
    command = ["report", str(model), "digits", "--out", str(out), "--compression", str(printed)]
    assert cli(command) == 0
    assert str(out / "report.html") in capsys.readouterr().out
    page = read(out / "report.html")
    compressed = decode(model.read_bytes(), "m")
    graph = build_graph(compressed.record.spec)
    sizes = {row.layer: row for row in layer_sizes(compressed.layers)}
    live = live_activation_bytes(graph)
    assert max(live) == peak_activation_bytes(graph)
    _, *rows, total = page.table("Per layer")
    for row, layer, alive in zip(rows, count(graph).layers, live, strict=True):
        assert row[0] == layer.name and row[-1] == f"{alive:,}"
        if layer.name in sizes:
            own = sizes[layer.name]
            assert row[3:5] == [f"{layer.parameters:,}", f"{layer.macs:,}"]
            assert row[5:8] == [
                f"{own.density:.1f}", f"{own.bits_per_weight:.2f}", f"{own.bytes:,}"
            ]  # fmt: skip
    assert total[7] == f"{sum(row.bytes for row in sizes.values()):,}"
    tried = sorted((each["bytes"], each["divergence"]) for each in history["search"])
    assert page.table("What the search tried")[1:] == [[f"{b:,}", f"{d:.4f}"] for b, d in tried]
    stages = page.table("Stages of the compression")[1:]
    assert [row[0] for row in stages] == [stage["stage"] for stage in history["stages"]]
    assert stages[-1][1] == f"{history['file_bytes']:,}" == f"{model.stat().st_size:,}"
    calibration = history["calibration"]
    assert f"temperature of {calibration['temperature']:.4f}" in page.text
    assert (
        f"{calibration['before']:.2f} points before compression and {calibration['after']:.2f} "
        "after" in page.text
    )
    printed.write_text(text.replace(str(model.stat().st_size), "1", 1))
    assert cli([*command[:-1], str(printed)]) == 2
    assert "is of a file of 1 bytes" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"file_bytes": "1"}', "[" * 100_000])
def test_what_compress_did_not_print_is_refused(
    tiny_spec: SqueezeNetSpec, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(UsageError, match="is not what squeezenet compress --json prints"):
        read_history(file, 1)
    with pytest.raises(UsageError, match="cannot be read"):
        read_history(tmp_path / "none.json", 1)


def page_of(spec: SqueezeNetSpec, *names: str, title: str = "t") -> tuple[Page, bytes]:
    record = small_record(spec, *names)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 120, 99, 3), dtype=np.uint8)
    images = ArrayImages(
        pixels_NHWC=pixels, labels=np.zeros(6, np.int64), class_names=("a",), title=title
    )
    about = dataclasses.replace(measured(record), data="from <i>|</i>")
    return Page(html_page(about, images, [])), mistakes_csv(about, images)


def test_names_are_text(tiny_spec: SqueezeNetSpec) -> None:
    """No name becomes markup, a formula or a control character."""
    names = ("<script>alert(1)</script>", '"><img src=x onerror=y>', "=cmd")
    page, listed = page_of(tiny_spec, *names, title="=HYPERLINK()\u202e\n\udc80")
    assert "script" not in {tag for tag, _, _ in page.attributes}
    assert not page.of("img", "onerror") and "\u202e" not in page.text
    assert all(name in page.text for name in names)
    rows = list(csv.reader(io.StringIO(listed.decode())))
    assert rows[1][0].startswith("'=HYPERLINK()") and "\\udc80" in rows[1][0]
    assert "from <i>|</i>" in page.text


def test_pictures_are_small(tiny_spec: SqueezeNetSpec) -> None:
    page, _ = page_of(tiny_spec, "a", "b", "c")
    sources = page.of("img", "src")
    assert len(sources) == 4  # two mistakes, each in its pair and in the list
    assert all(value.startswith("data:image/jpeg;base64,") for value in sources)
    assert max(map(len, sources)) < 12_000
