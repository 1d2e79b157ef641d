"""Attacks by ``.pth`` files: pickles, alone or in a ZIP archive."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from attack import PROOF, Attack

_DOUBLINGS = 60
"""Each level of the hash bomb doubles the time: 2^60 steps never end."""
_LEVELS = 200_000
_OPERATIONS = 2_000_000
_FIRST_KEY = b"X\x11\x00\x00\x00features.0.weight"


def attacks() -> list[Attack]:
    """Return all attacks by ``.pth`` files."""
    return [*_of_pickles(), *_of_archives(), *_of_tensors()]


def _of_pickles() -> list[Attack]:
    return [
        Attack(
            name="pth: code in the pickle",
            goal="execution of a command when the weights are loaded",
            defence="a reader of our own takes pickles as data: it imports and calls nothing",
            make=_with_code(bare=False),
            message="may be an attack",
        ),
        Attack(
            name="pth: code in a bare pickle",
            goal="the same, in the old file format without an archive",
            defence="the same reader takes it as data",
            make=_with_code(bare=True),
            message="that torch.save did not write, and may be an attack",
        ),
        Attack(
            name="pth: key that takes hours to hash",
            goal="exhaustion of time by a tuple of tuples of tuples, each used twice in the next",
            defence="only text and small numbers are hashed as keys",
            make=_pickled(lambda: b"\x80\x02}(" + _shared_tuples() + b"K\x01u."),
            message="holds no state_dict",
        ),
        Attack(
            name="pth: tuples that share tuples",
            goal="exhaustion of time by a search for weights that meets the same tuple 2^60 times",
            defence="everything is visited once",
            make=_pickled(lambda: b"\x80\x02" + _shared_tuples() + b"."),
            message="holds no state_dict",
        ),
        Attack(
            name="pth: class that takes hours to name",
            goal="exhaustion of time by an object of such a class, when that is written out",
            defence="only classes that a pickle names are named",
            make=_pickled(lambda: b"\x80\x02}" + _FIRST_KEY + _shared_tuples() + b")Rs."),
            message="is not a plain tensor of numbers (an object)",
        ),
        Attack(
            name="pth: values that are copied again and again",
            goal="exhaustion of time by many calls that have the same 100,000 arguments",
            defence="nothing is copied: calls of many arguments are not made",
            make=_pickled(_copies),
            message="is not a plain tensor",
        ),
        Attack(
            name="pth: modules that share a dictionary",
            goal="exhaustion of time by objects that all have the same large attributes",
            defence="every dictionary is searched once",
            make=_pickled(_shared_attributes),
            message="holds no state_dict",
        ),
        Attack(
            name="pth: memo of billions",
            goal="memory exhaustion by a place in the memo that a table would have to reach",
            defence="the number of a place is bounded",
            make=_pickled(lambda: b"\x80\x02}r\xff\xff\xff\xff."),
            message="has memo index 4294967295",
        ),
        Attack(
            name="pth: millions of operations",
            goal="exhaustion of time and memory by a pickle that makes empty dictionaries",
            defence="the operations of a pickle are counted",
            make=_pickled(lambda: b"\x80\x02(" + b"}" * _OPERATIONS + b"l."),
            message="over 1,000,000 operations",
        ),
        Attack(
            name="pth: dictionaries 200000 deep",
            goal="a stack overflow by dictionaries inside each other",
            defence="nothing recurses, and the search for weights ends 32 levels deep",
            make=_pickled(
                lambda: b"\x80\x02" + b"}U\x01a" * _LEVELS + b"}" + b"s" * _LEVELS + b"."
            ),
            message="state_dict",
        ),
    ]


def _of_archives() -> list[Attack]:
    return [
        Attack(
            name="pth: archive behind a pickle",
            goal="an archive that is checked, behind a pickle that is loaded",
            defence="the first bytes say what a file is, and what is checked is what is used",
            make=_archive_behind_a_pickle,
            message="holds no state_dict",
        ),
        Attack(
            name="pth: compressed archive",
            goal="memory exhaustion by an archive that inflates a thousandfold",
            defence="torch never compresses; a compressed archive is refused before it is inflated",
            make=_zip_bomb,
            message="compressed archive",
        ),
        Attack(
            name="pth: directory of gigabytes",
            goal="memory exhaustion by the claimed size of an archive's directory",
            defence="the directory must lie inside the file, and has at most 4 MB",
            make=_directory,
            message="whose directory is not inside",
        ),
    ]


def _of_tensors() -> list[Attack]:
    return [
        Attack(
            name="pth: storage of terabytes",
            goal="memory exhaustion by the claimed number of a tensor's elements",
            defence="storages have at most the bytes of the file",
            make=_pickled(lambda: _tensor(num_elements=1 << 38)),
            message="of more bytes than the file",
        ),
        Attack(
            name="pth: tensor outside of its storage",
            goal="display of memory by a tensor that begins after its numbers",
            defence="a tensor must lie within its storage",
            make=_pickled(lambda: _tensor(offset=4)),
            message="outside of its storage",
        ),
        Attack(
            name="pth: tensor of one number",
            goal="memory exhaustion by a tensor of terabytes that repeats one number",
            defence="a tensor of more elements than its storage is not made",
            make=_pickled(lambda: _tensor(shape=(1 << 20, 1 << 18), stride=(0, 0))),
            message="is not a plain tensor",
        ),
    ]


class _Code:
    """An object whose unpickling calls a function."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.proof}'",)


def _with_code(*, bare: bool) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        evil = pickle.dumps({"features.0.weight": _Code(folder / PROOF)}, protocol=2)
        if bare:
            evil = pickle.dumps(_Code(folder / PROOF), protocol=2)
        return _write(folder, evil if bare else _archive(evil))

    return make


def _pickled(pickled: Callable[[], bytes]) -> Callable[[Path], list[str]]:
    return lambda folder: _write(folder, _archive(pickled()))


def _write(folder: Path, content: bytes) -> list[str]:
    path = folder / "model.pth"
    path.write_bytes(content)
    return ["info", str(path)]


def _archive(pickled: bytes, *, padding: int = 0) -> bytes:
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if padding else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        archive.writestr("model/data.pkl", pickled)
        archive.writestr("model/version", b"3\n")
        archive.writestr("model/data/0", bytes(padding or 16))
    return buffer.getvalue()


def _shared_tuples() -> bytes:
    """The empty tuple (memo 0), doubled: drop, get, get, pair, put."""
    return b")q\x00" + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(_DOUBLINGS))


def _copies() -> bytes:
    arguments = b"(" + b"K\x01" * 100_000 + b"tq\x00"
    calls = b"0ctorch._utils\n_rebuild_parameter\nh\x00R" * 60_000
    pairs = b"0(" + b"(U\x01aK\x01l" * 30_000 + b"lq\x01"
    again = b"0ccollections\nOrderedDict\nh\x01\x85R" * 20_000
    return b"\x80\x02}" + _FIRST_KEY + arguments + calls + pairs + again + b"0ca\nb\n)Rs."


def _shared_attributes() -> bytes:
    entries = b"(" + b"".join(b"U\x06%06d]K\x01a" % i for i in range(60_000)) + b"u"
    state = b"}(U\x08_modules}U\x0b_parameters}" + entries + b"uq\x00"
    objects = b"".join(b"ca\nb\n)Rh\x00b" for _ in range(60_000))
    return b"\x80\x02}U\x01x(" + state + objects + b"ls."


def _archive_behind_a_pickle(folder: Path) -> list[str]:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    start = (0x1950A86A20F9469CFC6C, 1001, system)
    pickles = b"".join(pickle.dumps(value, protocol=2) for value in start)
    bomb = b"\x80\x02}(" + _shared_tuples() + b"K\x01u."
    keys = pickle.dumps([], protocol=2)
    return _write(folder, pickles + bomb + keys + _archive(pickle.dumps({}, protocol=2)))


def _zip_bomb(folder: Path) -> list[str]:
    return _write(folder, _archive(pickle.dumps({}, protocol=2), padding=1 << 28))


def _directory(folder: Path) -> list[str]:
    archive = _archive(pickle.dumps({}, protocol=2))
    end = archive.rindex(b"PK\x05\x06")
    return _write(folder, archive[: end + 12] + b"\xff" * 4 + archive[end + 16 :])


def _tensor(
    *,
    num_elements: int = 4,
    offset: int = 0,
    shape: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
) -> bytes:
    """Pickle a state_dict with one tensor; its storage is the archive's ``data/0``, 16 bytes."""
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu" + _number(num_elements) + b"tQ"
    sizes = b"".join(b"(" + b"".join(map(_number, each)) + b"t" for each in (shape, stride))
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _number(offset) + sizes + b"\x89)tR"
    )
    return b"\x80\x02}" + _FIRST_KEY + tensor + b"s."


def _number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)
