"""The reader of torch's files: as data, within bounds, and deaf to no signal."""

from __future__ import annotations

import io
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from squeezenet.model.pickles import (
    MAX_OPERATIONS,
    GlobalName,
    Instance,
    OtherKey,
    PickleError,
    read_pickle,
)
from squeezenet.model.stored_zip import MAX_DIRECTORY_BYTES, ZipError, read_directory
from squeezenet.model.torch_file import StoredTensor, TorchFileError, read_torch_file
from tests.model import fuzz_torch_file


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_as_python_reads_them(protocol: int) -> None:
    value = {
        "text": "é\n", "numbers": [0, 255, 65536, -1, 2**70, 1.5, True, False, None],
        "bytes": b"ab", 7: ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), "nested": {"a": {}},
    }  # fmt: skip
    if protocol < 3:
        del value["bytes"]  # which are calls there
    shared = ["again"]
    stream = io.BytesIO(pickle.dumps([value, shared, shared], protocol) + b"rest")
    found = read_pickle(stream)
    assert found == [value, shared, shared] and found[1] is found[2]
    assert stream.read() == b"rest"


class Strange(dict[str, int]):
    """A class of a program that is not here."""


def test_objects_are_remembered_and_not_made() -> None:
    strange = Strange(a=1)
    strange.note = "x"  # type: ignore[attr-defined]
    found = read_pickle(io.BytesIO(pickle.dumps({"x": strange, "f": os.system}, 2)))
    assert isinstance(found["x"], Instance) and str(found["x"].of).endswith(".Strange")
    assert found["x"].entries == {"a": 1} and found["x"].state == {"note": "x"}
    assert found["f"] == GlobalName(module="posix", name="system")
    ordered = read_pickle(io.BytesIO(pickle.dumps(OrderedDict(b=1, a={2, 3}), 2)))
    assert list(ordered) == ["b", "a"] and sorted(ordered["a"]) == [2, 3]


@pytest.mark.parametrize("content", [b"cos\\_a\nsystem\n.", b"S'a\\_b'\n.", b"cos\nsys\\%tem\n."])
def test_escapes_in_texts_are_no_warning(content: bytes) -> None:
    """Python warns of what ``\\_`` may mean one day; warnings are errors here."""
    assert isinstance(read_pickle(io.BytesIO(content)), (str, GlobalName))


def test_only_text_and_small_numbers_are_keys() -> None:
    keys = {(1, 2): 0, 1.5: 0, b"b": 0, 2**61: 0, -1: 0, None: 0}
    found = read_pickle(io.BytesIO(pickle.dumps(keys, 4)))
    assert len(found) == len(keys) and all(isinstance(key, OtherKey) for key in found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02}", "cut short"),
        (b".", "cut short"),
        (b"\x80\x02a.", "cut short"),
        (b"\x80\x02]K\x01K\x02s.", "no dictionary"),
        (b"\x80\x02}K\x01a.", "no list"),
        (b"\x80\x02K\x01\x87.", "empty stack"),
        (b"\x80\x02h\x05.", "memo 5, which is empty"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "memo index"),
        (b"\x80\x02cos\nsystem\nK\x01R.", "no arguments"),
        (b"\x80\x02K\x01K\x02\x93.", "no text"),
        (b"\x80\x02\x82\x01.", "operation EXT1"),
        (b"\x80\x02U\x01xQ.", "persistent id"),
        (b"\x80\x02(" + b"N" * MAX_OPERATIONS + b"t.", "over 1,000,000 operations"),
    ],
)
def test_pickles_that_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(PickleError, match=message):
        read_pickle(io.BytesIO(content))


def saved(content: object, *, new: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    "tensor",
    [
        *(torch.arange(24).view(2, 3, 4).to(dtype) for dtype in (
            torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
            torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64,
        )),
        torch.arange(24.0).view(2, 3, 4).permute(2, 0, 1)[1:, :, ::2],
        torch.ones(3).expand(1, 3),
        torch.tensor(5.0),
        torch.zeros(0, 7),
    ],
)  # fmt: skip
def test_tensors_as_torch_reads_them(tensor: torch.Tensor, new: bool) -> None:
    found = read_torch_file(io.BytesIO(saved({"x": tensor}, new=new)))["x"]
    assert isinstance(found, StoredTensor) and found.shape == tuple(tensor.shape)
    assert torch.equal(found.read(), tensor)


def test_views_and_tensors_of_old_releases() -> None:
    """torch 0.2 wrote storages that are parts of others, and a function without gradients."""
    start = b"".join(
        pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    )
    # The storage has 5 numbers, the view 3 from the second on, the tensor the last 2 of them.
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x01aU\x03cpuK\x05(U\x01bK\x01K\x03ttQ"
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + storage + b"K\x01(K\x02t(K\x01ttR"
    numbers = struct.pack("<q5f", 5, 0, 1, 2, 3, 4)
    content = start + b"\x80\x02" + tensor + b"." + pickle.dumps(["a"], 2) + numbers
    found = read_torch_file(io.BytesIO(content))
    assert found.read().tolist() == [2, 3]
    with pytest.raises(TorchFileError, match="view outside of its storage"):
        read_torch_file(io.BytesIO(content.replace(b"K\x01K\x03tt", b"K\x03K\x03tt")))
    with pytest.raises(TorchFileError, match="tensor outside of its storage"):
        read_torch_file(io.BytesIO(content.replace(b"K\x01(K\x02", b"K\x02(K\x02")))


def test_big_endian_files_are_refused() -> None:
    archive = saved({"x": torch.ones(2)})
    assert archive.count(b"little") == 1
    with pytest.raises(TorchFileError, match="big-endian machine"):
        read_torch_file(io.BytesIO(archive.replace(b"little", b"bigbig")))
    legacy = saved({"x": torch.ones(2)}, new=False)
    place = legacy.index(b"little_endian") + 13
    swapped = legacy[:place] + legacy[place:].replace(b"\x88", b"\x89", 1)
    with pytest.raises(TorchFileError, match="big-endian machine"):
        read_torch_file(io.BytesIO(swapped))


def test_a_tensor_that_repeats_its_numbers_is_not_made() -> None:
    found = read_torch_file(io.BytesIO(saved({"x": torch.ones(1).expand(9), "y": torch.ones(2)})))
    assert isinstance(found["x"], Instance) and torch.equal(found["y"].read(), torch.ones(2))


@pytest.mark.parametrize("new", [True, False])
def test_every_truncation_is_an_error(new: bool) -> None:
    content = saved({"x": torch.ones(50), "y": [1, 2]}, new=new)
    for length in range(4, len(content)):
        with pytest.raises(TorchFileError):
            read_torch_file(io.BytesIO(content[:length]))


def test_directories_of_archives() -> None:
    archive = saved({"x": torch.ones(2)})
    assert next(iter(read_directory(io.BytesIO(archive), len(archive)))).endswith("/data.pkl")
    end = archive.rindex(b"PK\x05\x06")
    for place, value in ((12, MAX_DIRECTORY_BYTES + 1), (16, len(archive)), (12, 0)):
        damaged = bytearray(archive)
        damaged[end + place : end + place + 4] = value.to_bytes(4, "little")
        with pytest.raises(ZipError, match="directory"):
            read_directory(io.BytesIO(damaged), len(damaged))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_the_reading(tmp_path: Path, number: int, code: int) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(saved({"x": 1}))
    program = (
        "import io, squeezenet.__main__ as main, squeezenet.model.torch_file as torch_file\n"
        "read = torch_file.read_pickle\n"
        "def slow(stream, **options):\n"
        "    print('reading', flush=True)\n"
        "    while True:\n"
        "        read(io.BytesIO(b'(' + b'}' * 900_000 + b'l.'))\n"
        "torch_file.read_pickle = slow\n"
        "main.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "info", str(path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"reading\n"
        process.send_signal(number)
        assert process.wait(timeout=60) == code


def test_damaged_files_at_random() -> None:
    """The fuzzing program, for 500 files; run it alone for longer, and with its limit of time."""
    assert fuzz_torch_file.run(500, seed=0, seconds_per_file=60) is None
