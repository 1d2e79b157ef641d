"""Changes to files that keep what a reader checks first: checksums, lengths, frames of archives.

``change`` alters plain bytes: libFuzzer's own changes under Atheris, ``random_change`` in tests.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import pickletools
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from google.protobuf.message import DecodeError, Message
from onnx import ModelProto
from safetensors import SafetensorError
from safetensors.torch import load

from squeezenet.codec import onnx_metadata
from squeezenet.model.safetensors_file import _checksum

Change: TypeAlias = Callable[[bytes], bytes]
Mutator: TypeAlias = Callable[[bytes, random.Random, Change], bytes]

_NUMBERS = (0, 1, -1, 2, 127, 255, 256, 65_535, 1 << 16, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 40,
            1 << 62, (1 << 63) - 1, 1 << 64)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    *_NUMBERS, 0.5, -0.5, 1e308, float("nan"), float("inf"), 1e-320, 10**400, "", "x", "a\nb",
    "\x1b[31m", "\u202e", "\ud800", "x" * 3000, None, True, [], {}, [[]], [0], {"": 0}, [0] * 300,
)  # fmt: skip


def random_change(rng: random.Random) -> Change:
    """Return a change of a few bytes."""

    def change(file: bytes) -> bytes:
        content = bytearray(file or b"\0")
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(len(content) + 1)
            kind = rng.randrange(6)
            if kind == 0 and place < len(content):
                content[place] ^= 1 << rng.randrange(8)
            elif kind == 1 and place < len(content):
                content[place] = rng.randrange(256)
            elif kind == 2:
                number = rng.choice(_NUMBERS[:-1])
                width, order = rng.choice((1, 2, 4, 8)), rng.choice(("<", ">"))
                packed = struct.pack(f"{order}q", number)
                packed = packed[:width] if order == "<" else packed[-width:]
                content[place : place + width] = packed
            elif kind == 3:
                del content[place : place + rng.randrange(1, 64)]
            elif kind == 4:
                other = rng.randrange(len(content) + 1)
                content[place:place] = content[other : other + rng.randrange(1, 64)]
            elif rng.random() < 0.2:
                del content[place:]
        return bytes(content)

    return change


def bytes_alone(file: bytes, rng: random.Random, change: Change) -> bytes:
    """Change plain bytes."""
    return change(file)


def picture(file: bytes, rng: random.Random, change: Change) -> bytes:
    """Change bytes; the chunks of a PNG get right checksums, three times of four."""
    if not file.startswith(b"\x89PNG") or rng.random() < 0.25:
        return change(file)
    chunks, place = [], 8
    while place + 12 <= len(file):
        length = int.from_bytes(file[place : place + 4], "big")
        chunks.append(file[place + 4 : place + 8 + length])
        place += 12 + length
    if not chunks:
        return change(file)
    i = rng.randrange(len(chunks))
    if rng.random() < 0.2:
        chunks.insert(i, rng.choice(chunks))
    chunks[i] = change(chunks[i])
    return file[:8] + b"".join(
        struct.pack(">I", max(0, len(each) - 4)) + each + struct.pack(">I", zlib.crc32(each))
        for each in chunks
    )


def archive(file: bytes, rng: random.Random, change: Change) -> bytes:
    """Change a file of an archive, more often a small one; or plain bytes."""
    entries = _entries(file)
    if not entries or rng.random() < 0.2:
        return change(file)
    names = list(entries)
    small = [name for name in names if len(entries[name]) < 4096] or names
    name = rng.choice(small if rng.random() < 0.8 else names)
    kind = rng.random()
    if kind < 0.1:
        del entries[name]
    elif kind < 0.15:
        entries[rng.choice(names)] = entries[name]
    elif name.endswith(".pkl") and kind < 0.6:
        entries[name] = _pickle(entries[name], rng)
    elif name.endswith(".npy") and kind < 0.6:
        entries[name] = _npy(entries[name], rng)
    else:
        entries[name] = change(entries[name])
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as written:
        for each, content in entries.items():
            written.writestr(each, content)
    return buffer.getvalue()


def _entries(file: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as read:
            if sum(info.file_size for info in read.infolist()) > 1 << 22:
                return {}
            return {name: read.read(name) for name in read.namelist()}
    except Exception:  # an archive that is damaged is changed as bytes
        return {}


def _pickle(file: bytes, rng: random.Random) -> bytes:
    """Change operations of a pickle."""
    try:
        places = [place for _, _, place in pickletools.genops(file) if place is not None]
    except Exception:
        places = list(range(len(file)))
    parts = [file[a:b] for a, b in itertools.pairwise([*places, len(file)])]
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not parts:
            break
        i, kind = rng.randrange(len(parts)), rng.randrange(5)
        if kind == 0:
            del parts[i]
        elif kind == 1:
            parts.insert(i, rng.choice(parts))
        elif kind == 2:
            parts[i] = rng.choice(parts)
        elif kind == 3:
            parts.insert(i, bytes([rng.choice(b"(.012NIJKLMQRSTUVXabcdeghijlopqrstu]}")]))
        else:
            number = rng.choice(_NUMBERS[:-1])
            parts[i] = b"\x8a\x08" + number.to_bytes(8, "little", signed=True)
    return b"".join(parts)


def _npy(file: bytes, rng: random.Random) -> bytes:
    """Give an array another type or shape; its header gets a right length."""
    length = int.from_bytes(file[8:10], "little")
    header, data = file[10 : 10 + length].decode("latin1"), file[10 + length :]
    if rng.random() < 0.5:
        types = ("'<f8'", "'|O'", "'<f4'", "'|i1'", "'<c16'", "'|S5'", "'<U2'", "'|V0'", "'>f8'")
        header = re.sub(r"'descr': [^,]*", f"'descr': {rng.choice(types)}", header)
    else:
        shape = tuple(rng.choice(_NUMBERS) for _ in range(rng.randrange(4)))
        header = re.sub(r"\([^)]*\)", str(shape), header)
    encoded = header.encode("latin1")
    return file[:8] + len(encoded).to_bytes(2, "little") + encoded + data


def json_text(file: bytes, rng: random.Random, change: Change) -> bytes:
    """Change a value somewhere in a JSON text; or plain bytes."""
    if rng.random() < 0.3:
        return change(file)
    try:
        data = json.loads(file)
    except (ValueError, RecursionError):
        return change(file)
    places = list(_places(data))
    if not places:
        return change(file)
    where, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del where[key]
    elif kind == 1:
        other, other_key = rng.choice(places)
        where[key] = other[other_key]
    elif kind == 2 and isinstance(where, dict):
        where[rng.choice([v for v in _VALUES if isinstance(v, str)])] = where[key]
    elif kind == 3 and isinstance(where[key], str):
        where[key] = change(where[key].encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
    elif kind == 4:
        where[key] = json.loads("[" * 400 + "]" * 400)
    else:
        where[key] = rng.choice(_VALUES)
    try:
        return json.dumps(data).encode()
    except (ValueError, RecursionError):  # it contains itself
        return change(file)


def _places(data: Any) -> Any:
    """Yield (container, key) of every value within."""
    todo = [data]
    while todo:
        each = todo.pop()
        items: list[tuple[Any, Any]] = []
        if isinstance(each, (dict, list)):
            items = list(each.items() if isinstance(each, dict) else enumerate(each))
        for key, value in items:
            yield each, key
            todo.append(value)


def lines(file: bytes, rng: random.Random, change: Change) -> bytes:
    """Change one line of JSON lines."""
    parts = file.split(b"\n")
    i = rng.randrange(len(parts))
    parts[i] = json_text(parts[i], rng, change)
    return b"\n".join(parts)


def safetensors(file: bytes, rng: random.Random, change: Change) -> bytes:
    """Change the header, or the record in it, with a right length and a right checksum of ours."""
    if rng.random() < 0.2:
        return change(file)
    length = int.from_bytes(file[:8], "little")
    header, data = file[8 : 8 + length], file[8 + length :]
    kind = rng.random()
    if kind < 0.1:
        data = change(data)
    elif kind < 0.4 and (record := _record(header)):
        header = _with_record(header, json_text(record, rng, change).decode("utf-8", "replace"))
    else:
        header = json_text(header, rng, change)
    changed = len(header).to_bytes(8, "little") + header + data
    return _signed(changed, header, data) if rng.random() < 0.8 else changed


def _record(header: bytes) -> bytes:
    try:
        text = json.loads(header)["__metadata__"]["squeezenet"]
        return text.encode() if isinstance(text, str) else b""
    except (ValueError, LookupError, TypeError, RecursionError):
        return b""


def _with_record(header: bytes, record: str) -> bytes:
    parsed = json.loads(header)
    parsed["__metadata__"]["squeezenet"] = record
    return json.dumps(parsed).encode()


def _signed(file: bytes, header: bytes, data: bytes) -> bytes:
    """Put a right checksum into a file of ours, if its tensors can be read."""
    text = _record(header).decode("utf-8", "replace")
    unsigned = re.sub(r',\s*"sha256":\s*"[^"]*"\}$', "}", text)
    if not unsigned.endswith("}"):
        return file
    try:
        state: dict[str, torch.Tensor] = load(file)
        signed = f'{unsigned[:-1]},"sha256":"{_checksum(unsigned, state)}"}}'
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError, AttributeError):
        return file
    header = _with_record(header, signed)
    return len(header).to_bytes(8, "little") + header + data


def onnx(file: bytes, rng: random.Random, change: Change) -> bytes:
    """Change a value of the metadata, or a field of a message, with a right checksum of ours."""
    if rng.random() < 0.2:
        return change(file)
    try:
        model = ModelProto.FromString(file)
    except DecodeError:
        return change(file)
    values = model.metadata_props
    if values and rng.random() < 0.5:
        each = values[rng.randrange(len(values))]
        text = each.value.encode() if isinstance(each.value, str) else each.value
        each.value = json_text(text, rng, change).decode("utf-8", "replace")
    else:
        weights = model.graph.initializer
        near = [model, model.graph, *weights] if rng.random() < 0.3 else list(weights)
        _change_field(rng.choice(near or [model]), rng, change)
    try:
        return _sealed_onnx(model) if rng.random() < 0.8 else model.SerializeToString()
    except (ValueError, RecursionError, UnicodeError):  # a text that is none
        return change(file)


def _change_field(message: Message, rng: random.Random, change: Change) -> None:
    """Change, repeat or remove what a field holds."""
    found = message.ListFields()
    if not found:
        return
    field, value = rng.choice(found)
    if not hasattr(value, "extend"):
        if rng.random() < 0.1:
            message.ClearField(field.name)
        elif field.cpp_type == field.CPPTYPE_MESSAGE:
            _change_field(value, rng, change)
        else:
            with contextlib.suppress(ValueError):  # the field holds no such number
                setattr(message, field.name, _changed_value(value, rng, change))
        return
    kind, i = rng.random(), rng.randrange(len(value))
    if kind < 0.15:
        del value[i]
    elif kind < 0.3:
        value.extend([value[i]] * rng.choice((1, 2, 1000)))
    elif field.cpp_type == field.CPPTYPE_MESSAGE:
        _change_field(value[i], rng, change)
    else:
        with contextlib.suppress(ValueError):
            value[i] = _changed_value(value[i], rng, change)


def _changed_value(value: Any, rng: random.Random, change: Change) -> Any:
    if isinstance(value, bytes):
        return change(value)
    if isinstance(value, str):
        return change(value.encode()).decode("utf-8", "replace")
    return type(value)(rng.choice(_NUMBERS))


def _sealed_onnx(model: Any) -> bytes:
    """Serialise with a right checksum, if there is a record."""
    text = onnx_metadata._text
    values = {text(each.key): text(each.value) for each in model.metadata_props}
    if values.pop(onnx_metadata.SUM_KEY, None) is not None:
        checksum = onnx_metadata._checksum(model, values)
        for each in model.metadata_props:
            if each.key == onnx_metadata.SUM_KEY:
                each.value = checksum
    return bytes(model.SerializeToString())


def choice_and(mutators: tuple[Mutator, ...]) -> Mutator:
    """Two bytes of choices, then a file: it is changed by the mutator that the first byte names."""

    def mutate(file: bytes, rng: random.Random, change: Change) -> bytes:
        if len(file) < 2:
            return change(file)
        head = file[:2]
        if rng.random() < 0.05:
            head = bytes([file[0], rng.randrange(256)])
        if rng.random() < 0.02:
            head = bytes([rng.randrange(256), file[1]])
        return head + mutators[head[0] % len(mutators)](file[2:], rng, change)

    return mutate
