"""Files and models at the limits of the runtime: each is refused by its error, or run exactly."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from squeezenet._native import NativeModel
from squeezenet.client import Classifier, available_kernels
from squeezenet.codec.container import decode, encode
from squeezenet.reference.integer_interpreter import IntegerInterpreter
from tests.conftest import REPOSITORY
from tests.runtime.c_reader import Read, error_of
from tests.runtime.hostile import Refused, extreme_models, refused

REJECT = REPOSITORY / "spec" / "vectors" / "reject"
ERRORS: dict[str, dict[str, Any]] = json.loads((REJECT / "errors.json").read_text())
CODES = {5: "limit", 6: "malformed", 7: "float only"}
"""Of sqz_error in runtime/sqz.h."""
REFUSED = {case.name: case for case in refused()}
EXTREME = extreme_models()


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_is_refused(case: Refused, read: Read) -> None:
    assert error_of(read(case.data)) == case.reader
    if case.reader == "malformed" and case.client == "malformed":
        return  # for float32 alone: sqz_load would refuse them in any case
    with pytest.raises(ValueError, match=r".") as caught:
        NativeModel(case.data, threads=case.threads)
    assert CODES[caught.value.args[0]] == case.client


@pytest.mark.parametrize("name", EXTREME)
def test_is_run_as_by_the_oracle(name: str) -> None:
    data = encode(EXTREME[name])
    height, width, channels = Classifier(data).crop_shape
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width, channels), np.uint8)
    pixels[0], pixels[1] = 0, 255
    expected = IntegerInterpreter(decode(data)).integer_logits(pixels)
    for kernels in available_kernels():
        for streamed in (False, True):
            client = Classifier(data, kernels=kernels, streamed=streamed)
            np.testing.assert_array_equal(client.integer_logits(pixels), expected, kernels)
    if name == "logits beyond 32 bits":
        assert set(expected[:, :2].ravel()) == {2**31 - 1, -(2**31)}


@pytest.mark.parametrize("name", [name for name in ERRORS if name.startswith("activations_")])
def test_client_refuses_activations(name: str) -> None:
    """The reader in C leaves ACTIVATIONS to sqz_load."""
    with pytest.raises(ValueError, match=r"contradicts|float32"):
        NativeModel((REJECT / name).read_bytes())


def test_client_refuses_what_the_reader_refuses() -> None:
    for name, case in ERRORS.items():
        if case.get("c", case["error"]) is not None:
            with pytest.raises(ValueError, match=r"."):
                NativeModel((REJECT / name).read_bytes())
