"""The runtime in WebAssembly, without JavaScript: called from Python by wasmtime."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import wasmtime

from squeezenet.export.web import WEB
from squeezenet.images.decode import Pixels


class WebRuntime:
    """A build of the runtime. ``deterministic``: relaxed instructions as WebAssembly's
    deterministic profile has them, signed as on ARM; otherwise as this processor has them."""

    def __init__(self, build: str, *, deterministic: bool = False) -> None:
        config = wasmtime.Config()
        config.wasm_relaxed_simd = True
        config.wasm_relaxed_simd_deterministic = deterministic
        engine = wasmtime.Engine(config)
        packed = (WEB / f"sqz-{build}.wasm.zlib").read_bytes()
        self.module = wasmtime.Module(engine, zlib.decompress(packed))
        self._store = wasmtime.Store(engine)
        self._exports = wasmtime.Instance(self._store, self.module, []).exports(self._store)

    def call(self, name: str, *arguments: int) -> int:
        """Call an exported function."""
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        return int(function(self._store, *arguments) or 0)

    @property
    def memory(self) -> wasmtime.Memory:
        memory = self._exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        return memory

    def load(self, data: bytes, kernels: int = 0) -> int:
        """Load a file; returns the error, 0 for none."""
        self.memory.write(self._store, data, self.call("reserve", len(data)))
        return self.call("load", len(data), kernels)

    @property
    def kernels(self) -> str:
        at = self.call("kernels_name")
        return bytes(self.memory.read(self._store, at, at + 20)).partition(b"\0")[0].decode()

    def logits(self, pixels_HWC: Pixels) -> npt.NDArray[np.int32]:
        """Classify RGB pixels; returns the logits in 1/65536."""
        height, width, _ = pixels_HWC.shape
        assert self.call("picture", height, width)
        opaque_HWC = np.dstack([pixels_HWC, np.full((height, width), 255, np.uint8)])
        at = self.call("scratch", opaque_HWC.size)
        self.memory.write(self._store, opaque_HWC.tobytes(), at)
        self.call("put_rgba", at, 0, height * width)
        assert self.call("classify", 1) == 0
        num_classes = np.frombuffer(self._read(self.call("about"), 4), np.uint32)[0]
        return np.frombuffer(self._read(self.call("logits"), 4 * int(num_classes)), np.int32)

    def _read(self, at: int, size: int) -> bytes:
        return bytes(self.memory.read(self._store, at, at + size))
