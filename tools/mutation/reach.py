"""Which tests run which lines, and how long they take.

Recorded once, and kept until code or tests change.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import runner
from mutants import PACKAGE, ROOT, Mutant

CHEAP_SECONDS = 1.0
"""Tests under this run first, in whatever file they are."""

Lines = dict[str, dict[int, set[str]]]
"""Tests that run a line: ``lines[module][line]``."""


class BrokenTestsError(Exception):
    """Tests fail without a mutant, or none were found."""


@dataclass(frozen=True)
class Test:
    """A test and its processor time, with that of the wide fixtures it needs."""

    name: str
    seconds: float

    @property
    def file(self) -> str:
        """The file that pytest is given to find it."""
        return self.name.partition("::")[0]


@dataclass(frozen=True)
class Reach:
    """The tests of some files, and what they reach."""

    tests: dict[str, Test]
    lines: Lines

    def tests_of(self, mutant: Mutant, max_seconds: float) -> list[Test]:
        """Return the tests that can tell a mutant, in the order in which they shall run.

        In a function: those that run its statement. In code that runs at import (constants, class
        bodies, defaults, decorators): those that run any function of the module, or a statement
        anywhere that mentions what the code defines, or that mention it themselves.
        """
        line, end = mutant.span[0][0], mutant.span[1][0]
        statement = _innermost_statement(mutant.path, line)
        found: set[str] = set()
        for each in range(min(line, statement.first), max(end, statement.last) + 1):
            found |= self.lines.get(mutant.module, {}).get(each, set())
        if not statement.in_function:
            for module, first, last in _mentions(frozenset(statement.names), mutant.path):
                for each in range(first, last + 1):
                    found |= self.lines.get(module, {}).get(each, set())
            names = frozenset(statement.names)
            found |= {test for test in self.tests if names & _words_of_test(test)}
        chosen = [self.tests[name] for name in found if self.tests[name].seconds <= max_seconds]
        return in_order(chosen)


def in_order(tests: Sequence[Test]) -> list[Test]:
    """Return cheap tests first, then file by file: fixtures of a file are then set up once."""
    least: dict[str, float] = {}
    for test in tests:
        if test.seconds >= CHEAP_SECONDS:
            least[test.file] = min(test.seconds, least.get(test.file, test.seconds))

    def key(test: Test) -> tuple[Any, ...]:
        if test.seconds < CHEAP_SECONDS:
            return 0, test.seconds, test.name
        return 1, least[test.file], test.file, test.seconds, test.name

    return sorted(tests, key=key)


def state_of_code(paths: Sequence[str]) -> str:
    """Return a hash of the package, its compiled module and the tests."""
    roots = [PACKAGE, *(ROOT / path for path in paths), ROOT / "tests" / "conftest.py"]
    files = {
        file
        for root in roots
        for file in ([root] if root.is_file() else [*root.rglob("*.py"), *root.glob("*.so")])
        if "__pycache__" not in file.parts
    }
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(ROOT)} {file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def recorded(paths: Sequence[str], work: Path) -> Reach:
    """Run tests twice, or read what an earlier run found.

    Once under coverage, to see which test runs which line. Then without, in the order in which
    mutants meet them: that gives the times, and shows that they pass in this order.
    """
    state = state_of_code(paths)
    file = work / f"reach-{state}.json"
    if not file.exists():
        _record(paths, work, file)
    found = json.loads(file.read_text())
    runner.preload(found["modules"])
    lines: Lines = defaultdict(dict)
    for module, by_line in found["lines"].items():
        for line, contexts in by_line.items():
            lines[module][int(line)] = {found["names"][i] for i in contexts}
    return Reach({name: Test(name, s) for name, s in found["tests"].items()}, dict(lines))


def _record(paths: Sequence[str], work: Path, file: Path) -> None:
    said = " ".join(paths)
    print(f"{said}: recording which test runs which line", flush=True)
    data_file = work / "coverage" / "data"
    data_file.parent.mkdir(exist_ok=True)
    for old in data_file.parent.iterdir():
        old.unlink()
    messages = _passing(runner.start(work / "record.txt", paths, record=data_file))
    uses = {message["test"]: message["uses"] for message in messages if "test" in message}
    tests = _times(messages, uses)
    imported = (work / "modules.txt").read_text().split()
    runner.preload(imported)

    print(f"{said}: timing the tests without a mutant", flush=True)
    names = [test.name for test in in_order([*tests.values()])]
    messages = _passing(runner.start(work / "control.txt", paths, chosen=names))
    tests = _times(messages, uses)

    users = defaultdict(list)
    for test, fixtures in uses.items():
        for fixture in fixtures:
            users[fixture].append(test)
    known = {name: i for i, name in enumerate(tests)}
    combined = coverage.Coverage(data_file=str(data_file), config_file=False)
    combined.combine([str(data_file.parent)])
    data = combined.get_data()
    lines = {}
    for measured in sorted(data.measured_files()):
        by_line = {}
        for line, contexts in data.contexts_by_lineno(measured).items():
            named = {test for context in contexts for test in users.get(context, [context])}
            if numbers := sorted(known[name] for name in named if name in known):
                by_line[line] = numbers
        lines[Path(measured).relative_to(ROOT).as_posix()] = by_line
    found = {
        "tests": {test.name: test.seconds for test in tests.values()},
        "names": list(known),
        "lines": lines,
        "modules": imported,
    }
    file.write_text(json.dumps(found))


def _passing(child: runner.Child) -> list[dict[str, Any]]:
    status = runner.wait(child)
    failed = [message["failed"] for message in child.messages if "failed" in message]
    if status or failed:
        raise BrokenTestsError(
            f"tests fail without a mutant: {', '.join(failed[:3]) or f'exit status {status}'}; "
            f"see {child.log}"
        )
    return child.messages


def _times(messages: list[dict[str, Any]], uses: dict[str, list[str]]) -> dict[str, Test]:
    """Return each test with its own time and that of its wide fixtures."""
    own: dict[str, float] = {}
    fixtures: dict[str, float] = {}
    setting_up = 0.0
    for message in messages:
        if "fixture" in message:
            fixtures[message["fixture"]] = message["seconds"]
            setting_up += message["seconds"]
        elif "end" in message:
            own[message["end"]] = max(0.0, message["seconds"] - setting_up)
            setting_up = 0.0
    return {
        test: Test(test, seconds + sum(fixtures.get(each, 0.0) for each in uses[test]))
        for test, seconds in own.items()
    }


@dataclass(frozen=True)
class _Statement:
    """The innermost statement at a line; of a compound one only its head."""

    first: int
    last: int
    in_function: bool
    names: tuple[str, ...]
    """What the enclosing top-level statement and class body define here."""


def _innermost_statement(path: Path, line: int) -> _Statement:
    body: Sequence[ast.stmt] = _parsed(path).body
    first = last = line
    in_function = False
    names: list[str] = []
    while True:
        inside = [each for each in body if _first_line(each) <= line <= (each.end_lineno or 0)]
        if not inside:
            return _Statement(first, last, in_function, tuple(names))
        node = inside[0]
        first, last = _first_line(node), node.end_lineno or line
        if not in_function:
            names += _defined(node)
        inner = [each for each in ast.iter_child_nodes(node) if hasattr(each, "body")]
        blocks = [
            part
            for each in [node, *inner]
            for name in ("body", "orelse", "finalbody")
            if isinstance(part := getattr(each, name, None), list)
        ]
        starts = [_first_line(part[0]) for part in blocks if part]
        if not starts:
            return _Statement(first, last, in_function, tuple(names))
        if line < min(starts):
            return _Statement(first, min(starts) - 1, in_function, tuple(names))
        first = last = line
        in_function |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        body = [statement for part in blocks for statement in part]


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def _defined(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [n.id for each in targets for n in ast.walk(each) if isinstance(n, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@functools.cache
def _words_of_test(name: str) -> frozenset[str]:
    """Return the names that a test's function mentions."""
    file, _, rest = name.partition("::")
    function = rest.partition("[")[0].rpartition("::")[2]
    nodes = ast.walk(_parsed(ROOT / file))
    bodies = [n for n in nodes if isinstance(n, ast.FunctionDef) and n.name == function]
    return frozenset().union(*map(_words, bodies))


@functools.cache
def _mentions(names: frozenset[str], own: Path) -> list[tuple[str, int, int]]:
    """Return the statements that mention names, and all functions of one's own module."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(ROOT).as_posix()
        for node in ast.walk(_parsed(path)):
            if isinstance(node, ast.FunctionDef) and (path == own or names & _words(node)):
                for statement in ast.walk(node):
                    if not isinstance(statement, ast.stmt) or statement is node:
                        continue
                    if path == own or names & _words(statement):
                        found.append((module, statement.lineno, _head_end(statement)))
    return found


def _head_end(statement: ast.stmt) -> int:
    body = getattr(statement, "body", None)
    if body:
        return max(statement.lineno, int(body[0].lineno) - 1)
    return statement.end_lineno or statement.lineno


@functools.cache
def _words(node: ast.AST) -> frozenset[str]:
    return frozenset(_identifiers(node))


def _identifiers(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Attribute):
            yield each.attr
        elif isinstance(each, ast.keyword) and each.arg:
            yield each.arg
