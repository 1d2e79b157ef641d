"""A small good file in parts that can be changed one by one, and then put together."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import stream
from accepted import minimal, numbers_of

from squeezenet.arch.serialization import to_plain
from squeezenet.codec.container import decode, encode
from squeezenet.codec.types import CompressedModel

UNKNOWN, TRUNCATED, CHECKSUM, VERSION, LIMIT, MALFORMED = (
    "unknown format", "truncated", "checksum", "unsupported version", "limit", "malformed",
)  # fmt: skip
SAME: Literal["same"] = "same"


@dataclass
class Draft:
    """What a file is made of. A body that was set in ``file`` stays as it is."""

    network: stream.Network
    input: list[int]
    layers: list[stream.Layer]
    record: dict[str, Any]
    file: stream.File
    ids: int = 0
    labels: bytes = b"0"
    change: Callable[[bytes], bytes] = field(default=lambda data: data)

    @staticmethod
    def of(model: CompressedModel) -> Draft:
        good = stream.File.of(encode(model))
        sections = [stream.Section(kind=kind, body=b"") for kind in range(1, 6)]
        layout = "<BHHH" + "i" * ((len(good.section(stream.INPUT).body) - 7) // 4)
        record = to_plain(model.record)
        for key in ("class_names", "class_ids", "provenance"):
            del record[key]
        _drop_defaults(record["spec"])
        return Draft(
            network=stream.Network.of(good.section(stream.GRAPH).body),
            input=list(struct.unpack(layout, good.section(stream.INPUT).body)),
            layers=[numbers_of(layer) for layer in model.layers],
            record=record,
            labels="\n".join(model.record.class_names).encode(),
            file=stream.File(needs=good.needs, sections=sections),
        )

    def body(self, kind: int) -> bytes:
        """Return what a section comes to."""
        if kind == stream.GRAPH:
            return self.network.to_bytes()
        if kind == stream.INPUT:
            return struct.pack("<BHHH" + "i" * len(self.input[4:]), *self.input)
        if kind == stream.WEIGHTS:
            return b"\1" + stream.weights(self.layers)
        if kind == stream.LABELS:
            return bytes([self.ids]) + stream.text(self.labels)
        return stream.text(json.dumps(self.record, separators=(",", ":")).encode())

    def to_bytes(self) -> bytes:
        for section in self.file.sections:
            if not section.body and section.kind in range(1, 6):
                section.body = self.body(section.kind)
        return self.change(self.file.to_bytes())


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A file that breaks one MUST: its error, why, and what the reader in C says of it: None
    where it has no use for the section and takes the file."""

    data: bytes
    error: str
    why: str
    c: str | None


class Cases:
    """Rejected files by name, in the order in which they are made."""

    def __init__(self) -> None:
        self.made: dict[str, Rejected] = {}

    @contextmanager
    def case(
        self,
        name: str,
        error: str,
        why: str,
        *,
        c: str | None = SAME,
        model: Callable[[], CompressedModel] = minimal,
    ) -> Iterator[Draft]:
        """Give a good file to be spoiled, and keep it."""
        require_good(Draft.of(model()))
        draft = Draft.of(model())
        yield draft
        assert name not in self.made
        self.made[name] = Rejected(
            data=draft.to_bytes(), error=error, why=why, c=error if c == SAME else c
        )


def _drop_defaults(plain: dict[str, Any]) -> None:
    """Shorten a spec's JSON: what stands everywhere need not stand in a hundred files."""
    defaults = {
        "batch_norm": False, "dropout": 0.0, "groups": 1, "lrn": False, "padding": 0, "stride": 1,
        "last_relu": False, "bypass": "none", "head": {},
    }  # fmt: skip
    for value in list(plain.values()):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict):
                _drop_defaults(part)
    for key, default in defaults.items():
        if plain.get(key) == default:
            del plain[key]


def require_good(draft: Draft) -> None:
    """Check that what is to be spoiled is good before."""
    decode(draft.to_bytes())
