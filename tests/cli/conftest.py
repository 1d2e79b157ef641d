"""A small model file for the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from squeezenet.arch.record import ModelRecord
from squeezenet.codec import container
from tests.conftest import random_model


@pytest.fixture
def sqz(tmp_path: Path, tiny_record: ModelRecord) -> Path:
    path = tmp_path / "tiny.sqz"
    path.write_bytes(container.encode(random_model(tiny_record)))
    return path
