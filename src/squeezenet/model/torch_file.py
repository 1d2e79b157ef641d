"""A file of ``torch.save`` read as plain data; torch's own loader never sees it.

So the bytes that are checked are the bytes that are used. A file is of the kind that its first
bytes say, as for torch: a ZIP archive, or the format before torch 1.6 (five pickles, then the
numbers). No class or function that it names is imported or called (``pickles``). A tensor becomes
a ``StoredTensor``, which must lie within its storage, as the storage within the file; its numbers
are read when they are needed.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from typing import IO, Any

import torch

from squeezenet.model.pickles import (
    MAX_ARGUMENTS,
    GlobalName,
    Instance,
    PickleError,
    make_instance,
    read_pickle,
)
from squeezenet.model.stored_zip import (
    CompressedEntryError,
    Entry,
    ZipError,
    find_bytes,
    read_directory,
)

MAX_PICKLE_BYTES = 1 << 22
"""The pickle of torchvision's SqueezeNets has 5 KB; its tensors' numbers lie outside of it."""
MAX_DIMENSIONS = 64
"""torch's own limit."""
_MAX_SIZE = 1 << 40
_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of the format before torch 1.6."""
_PROTOCOL = 1001
_DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.storage.UntypedStorage": torch.uint8,
}


_NAMED_DTYPES = {str(dtype): dtype for dtype in _DTYPES.values()}


class TorchFileError(PickleError):
    """The file is damaged, or not one that ``torch.save`` writes."""


@dataclass(eq=False, kw_only=True)
class _Storage:
    """Numbers in the file: ``num_elements`` of ``dtype`` from ``start`` on, -1 if not yet known."""

    file: IO[bytes]
    dtype: torch.dtype
    num_elements: int
    start: int = -1
    _numbers: torch.Tensor | None = None

    @property
    def num_bytes(self) -> int:
        return self.num_elements * self.dtype.itemsize

    def numbers(self) -> torch.Tensor:
        """Read them as bytes, once."""
        if self._numbers is None:
            self.file.seek(self.start)
            content = bytearray(self.file.read(self.num_bytes))
            if len(content) != self.num_bytes:
                raise TorchFileError("lacks the numbers of a tensor")
            self._numbers = torch.frombuffer(content, dtype=torch.uint8)
        return self._numbers


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredTensor:
    """A tensor whose numbers are still in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    _stride: tuple[int, ...] = field(repr=False)
    _offset: int = field(repr=False)
    _storage: _Storage = field(repr=False)

    def read(self) -> torch.Tensor:
        """Return the tensor; its file must still be open.

        Raises:
            TorchFileError: the file has become shorter.
        """
        if 0 in self.shape:
            return torch.zeros(self.shape, dtype=self.dtype)
        numbers = self._storage.numbers()
        whole = len(numbers) // self.dtype.itemsize * self.dtype.itemsize
        numbers = numbers[:whole].view(self.dtype)
        return numbers.as_strided(self.shape, self._stride, self._offset)


def read_torch_file(file: IO[bytes]) -> Any:
    """Read what was saved: plain values, ``StoredTensor`` and ``Instance``. Keep the file open.

    Raises:
        TorchFileError: see the class.
    """
    file_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        if file.read(4) == b"PK\x03\x04":
            return _read_archive(file, file_bytes)
        return _read_legacy(file, file_bytes)
    except CompressedEntryError:
        raise TorchFileError(
            "is a compressed archive, which torch.save does not write: TorchScript, or an attack"
        ) from None
    except (PickleError, ZipError, struct.error) as error:
        raise TorchFileError(str(error)) from None


def _read_archive(file: IO[bytes], file_bytes: int) -> Any:
    entries = read_directory(file, file_bytes)
    folder = next(iter(entries), "").partition("/")[0]

    def content(entry: Entry, limit: int) -> bytes:
        if entry.num_bytes > limit:
            raise TorchFileError(
                f"has {entry.num_bytes:,} bytes in {entry.name[:60]!r}, expected at most {limit:,}"
            )
        file.seek(find_bytes(file, file_bytes, entry))
        return file.read(entry.num_bytes)

    if (order := entries.get(f"{folder}/byteorder")) and content(order, 16) != b"little":
        raise TorchFileError("was written on a big-endian machine; save it again on another one")
    if (pickled := entries.get(f"{folder}/data.pkl")) is None:
        raise TorchFileError("has no data.pkl, which torch.save writes")
    storages = _Storages(file)
    value = storages.unpickle(io.BytesIO(content(pickled, MAX_PICKLE_BYTES)))
    if sum(storage.num_bytes for storage in storages.by_key.values()) > file_bytes:
        raise TorchFileError("has tensors of more bytes than the file")
    for key, storage in storages.by_key.items():
        entry = entries.get(f"{folder}/data/{key}")
        if entry is None or entry.num_bytes < storage.num_bytes:
            raise TorchFileError(f"lacks the numbers {key[:20]!r} of a tensor")
        storage.start = find_bytes(file, file_bytes, entry)
    return value


def _read_legacy(file: IO[bytes], file_bytes: int) -> Any:
    file.seek(0)
    pickles = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    if (magic := read_pickle(pickles)) != _MAGIC:
        raise TorchFileError(
            f"is a pickle of {magic.class_name} that torch.save did not write, and may be an attack"
            if isinstance(magic, Instance)
            else "is a pickle that torch.save did not write"
        )
    if read_pickle(pickles) != _PROTOCOL:
        raise TorchFileError("is of an unknown version of torch's format")
    system = read_pickle(pickles)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise TorchFileError("was written on a big-endian machine; save it again on another one")
    storages = _Storages(file)
    value = storages.unpickle(pickles)
    keys = read_pickle(pickles)
    start = pickles.tell()
    for key in keys if isinstance(keys, list) else ():
        storage = storages.by_key.get(key) if isinstance(key, str) else None
        if storage is None or storage.start >= 0:
            raise TorchFileError("names the numbers of a tensor that it does not have")
        file.seek(start)
        (num_elements,) = struct.unpack("<q", file.read(8))
        storage.start = start + 8
        start = storage.start + storage.num_bytes
        if num_elements != storage.num_elements or start > file_bytes:
            raise TorchFileError("lacks the numbers of a tensor")
    if any(storage.start < 0 for storage in storages.by_key.values()):
        raise TorchFileError("lacks the numbers of a tensor")
    return value


@dataclass(frozen=True, kw_only=True)
class _View:
    """A part of a storage, as the format before torch 1.6 knows it."""

    storage: _Storage
    start: int
    num_elements: int


class _Storages:
    """The storages that a pickle refers to, and the functions that make tensors of them."""

    def __init__(self, file: IO[bytes]) -> None:
        self.by_key: dict[str, _Storage] = {}
        self._file = file

    def unpickle(self, stream: IO[bytes]) -> Any:
        return read_pickle(
            stream,
            build={
                "torch._utils._rebuild_tensor": self._tensor,
                "torch._utils._rebuild_tensor_v2": self._tensor,
                "torch._utils._rebuild_tensor_v3": self._tensor_v3,
                "torch._utils._rebuild_parameter": lambda tensor, *rest: tensor,
                "torch._utils._rebuild_parameter_with_state": lambda tensor, *rest: tensor,
                "torch._tensor._rebuild_from_type_v2": self._of_type,
                "torch.Size": lambda sizes=(): sizes if isinstance(sizes, tuple) else None,
            },
            persistent=self._find,
        )

    def _find(self, reference: Any) -> Any:
        """Return the storage of a persistent id: ("storage", type, key, device, elements, view)."""
        if isinstance(reference, tuple) and reference[:1] == ("module",) and len(reference) > 1:
            return reference[1]  # a class with its source code, in the format before torch 1.6
        if not isinstance(reference, tuple) or len(reference) not in (5, 6):
            raise TorchFileError("refers to what is no storage")
        of, key, num_elements = (reference[i] for i in (1, 2, 4))
        dtype = _DTYPES.get(str(of)) if isinstance(of, GlobalName) else None
        if dtype is None:
            return make_instance(of)
        if not isinstance(key, str) or not _is_size(num_elements):
            raise TorchFileError("refers to what is no storage")
        storage = self.by_key.setdefault(
            key, _Storage(file=self._file, dtype=dtype, num_elements=num_elements)
        )
        if (storage.dtype, storage.num_elements) != (dtype, num_elements):
            raise TorchFileError("describes one storage in two ways")
        view = reference[5] if len(reference) == 6 else None
        start, length = (
            (view[1], view[2]) if isinstance(view, tuple) and len(view) == 3 else (0, num_elements)
        )
        if not (_is_size(start) and _is_size(length) and start + length <= num_elements):
            raise TorchFileError("has a view outside of its storage")
        return _View(storage=storage, start=start, num_elements=length)

    def _tensor(
        self, view: Any, offset: Any, shape: Any, stride: Any, *rest: Any
    ) -> StoredTensor | None:
        return (
            _stored(view, view.storage.dtype, offset, shape, stride)
            if isinstance(view, _View)
            else None
        )

    def _tensor_v3(
        self,
        view: Any,
        offset: Any,
        shape: Any,
        stride: Any,
        grad: Any,
        hooks: Any,
        dtype: Any,
        *rest: Any,
    ) -> StoredTensor | None:
        own = _NAMED_DTYPES.get(str(dtype)) if isinstance(dtype, GlobalName) else None
        if not isinstance(view, _View) or own is None:
            return None
        return _stored(view, own, offset, shape, stride)

    def _of_type(self, of: Any, kind: Any, arguments: Any, *rest: Any) -> Any:
        """Make a tensor that has attributes beside its numbers."""
        known = {"_rebuild_tensor_v2": self._tensor, "_rebuild_tensor_v3": self._tensor_v3}
        function = known.get(of.name) if isinstance(of, GlobalName) else None
        if function is None or not isinstance(arguments, tuple) or len(arguments) > MAX_ARGUMENTS:
            return None
        return function(*arguments)


def _stored(
    view: _View, dtype: torch.dtype, offset: Any, shape: Any, stride: Any
) -> StoredTensor | None:
    """Make a tensor that lies within its storage; None if it has more elements than that.

    Raises:
        TorchFileError: it does not.
    """
    sizes = isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride)
    if (
        not sizes
        or len(shape) > MAX_DIMENSIONS
        or not all(map(_is_size, (offset, *shape, *stride)))
    ):
        raise TorchFileError("has a tensor without sizes")
    room = view.num_elements * view.storage.dtype.itemsize // dtype.itemsize
    num_elements, last = 1, offset
    for size, step in zip(shape, stride, strict=True):
        num_elements *= max(1, size)
        last += (size - 1) * step
    if 0 in shape:
        last = -1
    elif num_elements > room:  # it repeats its numbers, as expand() does
        return None
    if last >= room or num_elements > _MAX_SIZE:
        raise TorchFileError("has a tensor outside of its storage")
    first = view.start * view.storage.dtype.itemsize // dtype.itemsize
    return StoredTensor(
        dtype=dtype, shape=shape, _stride=stride, _offset=offset + first, _storage=view.storage
    )


def _is_size(value: Any) -> bool:
    """Whether it is a whole number that sizes and places in a file can have."""
    return type(value) is int and 0 <= value < _MAX_SIZE
