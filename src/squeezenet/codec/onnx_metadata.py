"""The record in the ``metadata_props`` of our ONNX files, and the checksum over everything.

| key | value |
|---|---|
| ``squeezenet`` | the record's canonical JSON without class names |
| ``class_names``, ``class_ids`` | JSON lists, in the order of the logits; ids may be none |
| ``preprocessing`` | JSON: what the record says of it, for programs that do not know the record |
| ``arithmetic`` | ``float32`` or ``int8`` |
| ``sha256`` | checksum in hex of the graph and of all other keys |

Knows ONNX by its messages' fields alone, so it does not import the package ``onnx``.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from squeezenet.arch.record import ModelRecord
from squeezenet.arch.serialization import canonical_json
from squeezenet.errors import ChecksumError, MalformedError, SpecError

RECORD_KEY, SUM_KEY, ARITHMETIC_KEY = "squeezenet", "sha256", "arithmetic"
_NAMES_KEY, _IDS_KEY, _PREPROCESSING_KEY = "class_names", "class_ids", "preprocessing"


def seal(model: Any, record: ModelRecord, arithmetic: str) -> None:
    """Write the record and the checksum into a ``ModelProto`` that is otherwise finished."""
    values = {
        RECORD_KEY: record.to_json(labels=False),
        _NAMES_KEY: canonical_json(record.class_names),
        _IDS_KEY: canonical_json(record.class_ids),
        _PREPROCESSING_KEY: canonical_json(record.preprocessing),
        ARITHMETIC_KEY: arithmetic,
    }
    values[SUM_KEY] = _checksum(model, values)
    for key, value in values.items():
        model.metadata_props.add(key=key, value=value)


def read_sealed(model: Any, where: str) -> tuple[ModelRecord, str] | None:
    """Return the record and the arithmetic of a ``ModelProto``; None if it is not ours.

    ``where`` begins an error message.

    Raises:
        ChecksumError: the file is not what was written.
        MalformedError: the record is invalid.
    """
    values = {_text(each.key): _text(each.value) for each in model.metadata_props}
    if RECORD_KEY not in values:
        return None
    if values.pop(SUM_KEY, None) != _checksum(model, values):
        raise ChecksumError(
            f"{where}: its SHA-256 is not the one inside, so it was damaged or changed by another "
            "program; export it again"
        )
    try:
        names, ids = (tuple(json.loads(values[key])) for key in (_NAMES_KEY, _IDS_KEY))
        record = ModelRecord.from_json(values[RECORD_KEY], (names, ids))
        return record, values[ARITHMETIC_KEY]
    except (SpecError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedError(f"{where}: its metadata is invalid ({error})") from None


def _text(value: str | bytes) -> str:
    """A string of a message, which is bytes where it is not UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="backslashreplace")


def _checksum(model: Any, values: dict[str, str]) -> str:
    """SHA-256 in hex of the graph's bytes, then of each key and value, by key."""
    digest = hashlib.sha256(model.graph.SerializeToString(deterministic=True))
    for key, value in sorted(values.items()):
        digest.update(f"\n{key} {value}".encode())
    return digest.hexdigest()
