"""The reader of ``.sqz`` alone, without what runs a network: its size on microcontrollers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.runtime.targets.tools import RUNTIME, TargetError, call, install

NEEDS = {"arm-none-eabi-gcc": "gcc-arm-none-eabi"}
SOURCES = ("sqz_file.c", "sqz_graph.c", "sqz_decode.c")
CPUS = ("cortex-m0", "cortex-m4", "cortex-m7")
MOST_CODE_BYTES, MOST_STATE_BYTES = 12 << 10, 16 << 10
_STATE = "#include <sqz.h>\nsqz_file sqz_read;\nsqz_decoder sqz_decodes;\n"


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A target that is measured and not run."""

    name: str = "reader"
    about: str = f"the size of {', '.join(SOURCES)} at -Os, without a heap"


def measure(work: Path) -> list[str]:
    """Compile the reader for each processor; return a line of sizes for each.

    Raises:
        TargetError: code or state are too large, or something is called that the reader must do
            without.
    """
    install(NEEDS)
    folder = work / "reader"
    folder.mkdir(parents=True, exist_ok=True)
    state_c = folder / "state.c"
    state_c.write_text(_STATE)
    lines = []
    for cpu in CPUS:
        options = [
            f"-mcpu={cpu}", "-mthumb", "-mfloat-abi=soft", "-std=c99", "-Os", "-ffreestanding",
            f"-I{RUNTIME}", f"-I{RUNTIME / 'examples' / 'firmware' / 'include'}",
        ]  # fmt: skip
        code = 0
        for source in SOURCES:
            out = folder / f"{cpu}-{source}.o"
            call(["arm-none-eabi-gcc", *options, "-c", RUNTIME / "src" / source, "-o", out])
            sizes = _sizes(out)
            code += sizes["text"] + sizes["data"]
            wanted = call(["arm-none-eabi-nm", "--undefined-only", out])
            if re.search(r"\b(malloc|calloc|realloc|free)\b", wanted):
                raise TargetError(f"{cpu}: {source} asks for a heap")
            if sizes["bss"]:
                raise TargetError(f"{cpu}: {source} keeps {sizes['bss']} bytes of its own")
        out = folder / f"{cpu}-state.o"
        call(["arm-none-eabi-gcc", *options, "-c", state_c, "-o", out])
        state = _sizes(out)["bss"]
        lines.append(f"{cpu}: code and constants {code:,}, state {state:,} bytes")
        if code > MOST_CODE_BYTES or state > MOST_STATE_BYTES:
            raise TargetError(f"{lines[-1]}; at most {MOST_CODE_BYTES:,} and {MOST_STATE_BYTES:,}")
    return lines


def _sizes(file: Path) -> dict[str, int]:
    names, values = call(["arm-none-eabi-size", file]).splitlines()[:2]
    return dict(zip(names.split()[:3], map(int, values.split()[:3]), strict=True))
