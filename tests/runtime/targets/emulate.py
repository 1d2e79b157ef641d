"""Run a Linux program for x86-64 on a processor of Bochs'.

    python emulate.py SHIM PROCESSOR PROGRAM [ARGUMENT ...]

PROGRAM is statically linked and gets so much of Linux as ``runtime/tests/run.c`` asks for: it reads
files, prints and ends; this ends by its exit code, or by 1 and a line where the processor raised an
exception. SHIM is ``bochs.c``, compiled. Needs BochsCPU and nothing else of ours.

The program's addresses are those of one piece of memory, and its processor has no other:

    4 KB    what a system call jumps to
    8 KB    page tables
    4 MB    the program, after it what brk() gives, up to the stack at the end
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from typing import Any

MEMORY_BYTES = 512 << 20
"""Beyond what any network here takes; what is never touched costs nothing."""
BREAK_LIMIT = MEMORY_BYTES - (8 << 20)
"""The stack has the rest."""
PAGE = 4096
LARGE_PAGE = 2 << 20
ENTRY = PAGE
TABLES = 2 * PAGE
SYSRET = bytes.fromhex("480f07")

USER_CODE, USER_DATA, SYSTEM_CODE = 0x33, 0x2B, 0x10
"""Selectors as Linux has them. SYSRET wants the first two 16 and 8 above a third."""
CODE, DATA = 0xA0FB, 0xC0F3
"""Attributes of segments of user mode: 64-bit code; data."""

OSFXSR, OSXMMEXCPT, OSXSAVE = 1 << 9, 1 << 10, 1 << 18
"""Of CR4: the system knows of SSE, its exceptions, and XCR0."""
X87_SSE_AVX, AVX512 = 0x7, 0xE0
"""Of XCR0: registers that programs may use."""
PROCESSORS = {"corei7_icelake_u": X87_SSE_AVX | AVX512, "arrow_lake": X87_SSE_AVX}
"""With AVX-512 VNNI; with AVX-VNNI. And the XCR0 that Linux gives them."""
MXCSR, FPU_CONTROL = 0x1F80, 0x37F
"""As programs find them: exceptions of floating point are masked."""

ARCH_SET_FS = 0x1002
AT_PAGESZ, AT_RANDOM = 6, 25
SIGNED, UNSIGNED = 1 << 63, 1 << 64


class Call(IntEnum):
    """Numbers of system calls."""

    READ = 0
    WRITE = 1
    CLOSE = 3
    LSEEK = 8
    MPROTECT = 10
    BRK = 12
    ARCH_PRCTL = 158
    EXIT_GROUP = 231
    OPENAT = 257


class Memory:
    """The memory: ``bytes`` by the program's addresses, ``host`` its address in this process."""

    def __init__(self) -> None:
        self.bytes = mmap.mmap(-1, MEMORY_BYTES)
        self.host = ctypes.addressof(ctypes.c_char.from_buffer(self.bytes))
        self.bytes[ENTRY : ENTRY + len(SYSRET)] = SYSRET
        # Three levels of tables, of one page each; every address stands for itself.
        present, large = 0x7, 0x80
        pages = range(0, MEMORY_BYTES, LARGE_PAGE)
        self.put(TABLES, TABLES + PAGE | present)
        self.put(TABLES + PAGE, TABLES + 2 * PAGE | present)
        self.put(TABLES + 2 * PAGE, *(page | present | large for page in pages))

    def put(self, address: int, *words: int) -> None:
        """Write words of 64 bits."""
        self.bytes[address : address + 8 * len(words)] = struct.pack(f"<{len(words)}Q", *words)

    def text(self, address: int) -> bytes:
        """Return a string of C's."""
        return self.bytes[address : self.bytes.find(b"\0", address)]

    def load(self, program: Path) -> tuple[int, int]:
        """Put an ELF file where it wants to be; return where it starts, and its end."""
        data = program.read_bytes()
        start, headers = struct.unpack_from("<QQ", data, 24)
        header_bytes, num_headers = struct.unpack_from("<HH", data, 54)
        end = 0
        for header in range(headers, headers + num_headers * header_bytes, header_bytes):
            kind, _flags, offset, address = struct.unpack_from("<IIQQ", data, header)
            file_bytes, memory_bytes = struct.unpack_from("<QQ", data, header + 32)
            if kind == 1:  # PT_LOAD
                self.bytes[address : address + file_bytes] = data[offset : offset + file_bytes]
                end = max(end, address + memory_bytes)
        return start, -(-end // PAGE) * PAGE

    def push(self, arguments: list[str]) -> int:
        """Lay the stack out for ``_start``; return its pointer."""
        at = MEMORY_BYTES - PAGE
        random = at - PAGE  # 16 bytes that need not be random here
        pointers = []
        for argument in arguments:
            text = os.fsencode(argument) + b"\0"
            self.bytes[at : at + len(text)] = text
            pointers.append(at)
            at += len(text)
        no_environment, end = 0, (0, 0)
        auxiliary = (AT_PAGESZ, PAGE, AT_RANDOM, random)
        pointer = random - PAGE
        self.put(pointer, len(arguments), *pointers, 0, no_environment, *auxiliary, *end)
        return pointer


class Machine:
    """A processor that runs a program in user mode, and its Linux."""

    def __init__(self, bochscpu: Any, processor: str, arguments: list[str]) -> None:
        self.bochscpu = bochscpu
        self.memory = Memory()
        self.exit_code: int | None = None
        start, self.break_ = self.memory.load(Path(arguments[0]))
        self.session = bochscpu.Session()
        self.session.missing_page_handler = self._give_page
        state = bochscpu.State()
        bochscpu.cpu.set_long_mode(state)
        state.cr3 = TABLES
        state.cr4 |= OSFXSR | OSXMMEXCPT | OSXSAVE
        state.xcr0 = PROCESSORS[processor]
        state.mxcsr, state.fpcw = MXCSR, FPU_CONTROL
        state.star = (USER_CODE - 16) << 48 | SYSTEM_CODE << 32
        state.lstar = ENTRY
        state.cs = self._segment(USER_CODE, CODE)
        state.ds = state.es = state.ss = state.fs = state.gs = self._segment(USER_DATA, DATA)
        state.rflags = 2  # a bit that is always set
        state.rip = start
        state.rsp = self.memory.push(arguments)
        self.session.cpu.state = state

    def run(self) -> int:
        """Run to the end; return the exit code."""
        hook = self.bochscpu.Hook()
        hook.far_branch = self._branched
        hook.exception = self._excepted
        self.session.run([hook])
        return 1 if self.exit_code is None else self.exit_code

    def _segment(self, selector: int, attributes: int, base: int = 0) -> Any:
        segment = self.bochscpu.Segment()
        segment.present = True
        segment.selector = selector
        segment.base = base
        segment.limit = 0xFFFFFFFF
        segment.attr = attributes
        return segment

    def _give_page(self, address: int) -> None:
        page = address // PAGE * PAGE
        self.bochscpu.memory.page_insert(page, self.memory.host + page)

    def _excepted(self, session: Any, _cpu: int, vector: int, error: int) -> None:
        cpu = session.cpu
        print(f"exception {vector}, error {error:#x}, at {cpu.rip:#x}, of address {cpu.cr2:#x}")
        session.stop()

    def _branched(self, session: Any, _cpu: int, kind: int, *_where: int) -> None:
        if kind != self.bochscpu.InstructionType.IS_SYSCALL.value:
            return
        cpu = session.cpu
        try:
            result = self._answer(cpu.rax, cpu.rdi, cpu.rsi, cpu.rdx)
        except OSError as error:
            result = -(error.errno or errno.EIO)
        cpu.rax = result % UNSIGNED

    def _answer(self, number: int, a: int, b: int, c: int) -> int:
        memory = self.memory.bytes
        match number:
            case Call.READ:
                data = os.read(a, c)
                memory[b : b + len(data)] = data
                return len(data)
            case Call.WRITE:
                return os.write(a, memory[b : b + c])
            case Call.OPENAT:  # in whatever folder: only open() comes here, whose is this one
                return os.open(self.memory.text(b), c)
            case Call.CLOSE:
                os.close(a)
                return 0
            case Call.LSEEK:
                return os.lseek(a, b - UNSIGNED if b & SIGNED else b, c)
            case Call.BRK:
                if self.break_ < a <= BREAK_LIMIT:
                    self.break_ = a
                return self.break_
            case Call.ARCH_PRCTL if a == ARCH_SET_FS:
                self.session.cpu.fs = self._segment(USER_DATA, DATA, base=b)
                return 0
            case Call.MPROTECT:  # everything stays open
                return 0
            case Call.EXIT_GROUP:
                self.exit_code = a
                self.session.stop()
                return 0
        return -errno.ENOSYS  # which the C library takes from old kernels too


def load_bochscpu(shim: str, processor: str) -> Any:
    """Import BochsCPU with its processor replaced.

    The loader looks for the function that makes it in what is loaded for all, where SHIM is by
    then, before it looks into BochsCPU itself.
    """
    replaced = ctypes.CDLL(shim, mode=ctypes.RTLD_GLOBAL)
    bochscpu: Any = import_module("bochscpu")
    for part in ("cpu", "memory"):
        import_module(f"bochscpu.{part}")
    function = f"create_{processor}_cpuid"
    mangled = f"_Z{len(function)}{function}P8BX_CPU_C"
    create = ctypes.CDLL(bochscpu._bochscpu.__file__)[mangled]
    address = ctypes.cast(create, ctypes.c_void_p).value
    ctypes.c_void_p.in_dll(replaced, "create_processor").value = address
    return bochscpu


def main() -> None:
    shim, processor, *arguments = sys.argv[1:]
    machine = Machine(load_bochscpu(shim, processor), processor, arguments)
    sys.exit(machine.run())


if __name__ == "__main__":
    main()
