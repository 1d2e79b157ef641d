"""Which mutants there are, which are left out beforehand, and which are drawn.

The operators are cosmic-ray's. They replace binary, comparison and unary operators, add ``not``,
swap ``and`` with ``or``, ``True`` with ``False`` and ``break`` with ``continue``, add 1 to numbers
or subtract it, make exception handlers catch nothing, remove decorators, and run loops zero times.
Three kinds of its operators are not used. Two insert or replace a variable that one must name. One
replaces ``==`` and other comparisons by ``is``, which tests Python's caching of objects. (``is``
and ``is not`` do replace each other.)

A *site* is a place in the text and a kind of operator there: one ``+``, one number. A site has up
to eleven mutants (``+`` becomes ``-``, ``*``, …). All sites of the three folders are enumerated.
The draw is uniform over sites, without strata, and takes one mutant per site. Both choices are made
by a hash of the seed, the module, the function and the line's text. So the draw is the same on each
machine. A change of one function leaves the draw in others as it was, but for few at its end.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "squeezenet"

Position = tuple[int, int]
Span = tuple[Position, Position]
"""A start and an end, each a line from 1 and a column in characters from 0."""


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    path: Path
    span: Span
    operator: str
    index: int
    """Which of the operator's mutants at this span."""
    occurrence: int
    """Which of the operator's mutants in this module: cosmic-ray's number."""

    @property
    def module(self) -> str:
        """The module's path from the repository's root."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def folder(self) -> str:
        """The folder of ``src/squeezenet`` that the module is in."""
        return self.path.relative_to(PACKAGE).parts[0]

    @property
    def id(self) -> str:
        """The name by which ``--mutant`` finds it."""
        (line, column), _ = self.span
        return f"{self.module}:{line}:{column}:{self.operator}#{self.index}"

    def text(self) -> str | None:
        """Return the mutated module, or None where it is no other program.

        That is: where it does not compile, or parses to the same tree.
        """
        return _mutated(self)


@functools.cache
def _mutated(mutant: Mutant) -> str | None:
    before = mutant.path.read_text("utf-8")
    after = mutate_code(before, _OPERATORS[mutant.operator], mutant.occurrence)
    if after is None:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # such as: "x" is not callable
            if ast.dump(ast.parse(after)) == ast.dump(ast.parse(before)):
                return None
            compile(after, mutant.module, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    return str(after)


@dataclass
class Site:
    """A place in the text and a kind of operator there."""

    key: str
    mutants: list[Mutant] = field(default_factory=list)


def modules(folders: list[str]) -> list[Path]:
    """Return the modules of folders of the package, sorted."""
    return sorted(path for folder in folders for path in (PACKAGE / folder).rglob("*.py"))


def sites_of(path: Path) -> list[Site]:
    """Enumerate the sites of a module, in the order of the text, without those left out."""
    text = path.read_text("utf-8")
    lines = text.splitlines()
    tree = ast.parse(text)
    excluded = list(excluded_spans(tree, lines))
    found: dict[tuple[Span, str], list[Mutant]] = {}
    nodes = list(ast_nodes(parso.parse(text)))
    for name, operator in _OPERATORS.items():
        at: Counter[Span] = Counter()
        spans = (span for node in nodes for span in operator.mutation_positions(node))
        for occurrence, span in enumerate(spans):
            if not any(start <= span[0] and span[1] <= end for start, end in excluded):
                kind = name.split("_")[0]
                mutant = Mutant(path, span, name, at[span], occurrence)
                found.setdefault((span, kind), []).append(mutant)
            at[span] += 1
    scopes = _scopes(tree)
    seen: Counter[str] = Counter()
    sites = []
    for (span, kind), mutants in sorted(found.items()):
        scope = _innermost(scopes, span[0][0])
        key = "|".join([mutants[0].module, scope, lines[span[0][0] - 1].strip(), kind])
        sites.append(Site(f"{key}|{seen[key]}", mutants))
        seen[key] += 1
    return sites


def draw(sites: list[Site], num_mutants: int, seed: int) -> list[Mutant]:
    """Draw a mutant each from so many sites, all sites alike."""

    def rank(key: str) -> str:
        return hashlib.sha256(f"{seed}|{key}".encode()).hexdigest()

    drawn: list[Mutant] = []
    for site in sorted(sites, key=lambda site: rank(site.key)):
        if len(drawn) == num_mutants:
            break
        ranked = sorted(site.mutants, key=lambda m: rank(f"{site.key}|{m.operator}#{m.index}"))
        drawn += next(([mutant] for mutant in ranked if mutant.text() is not None), [])
    return drawn


def excluded_spans(tree: ast.Module, lines: list[str]) -> Iterator[Span]:
    """Yield what holds no mutants: see the rules in ``__main__.py``."""
    for node in ast.walk(tree):
        found: list[ast.AST | None] = []
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found = [node.returns]
                if node.name == "__repr__":
                    found += node.body
            case ast.arg() | ast.AnnAssign():
                found = [node.annotation]
            case ast.Expr(value=ast.Constant(value=str())):
                found = [node]
            case ast.Assert():
                found = [node.msg]
            case ast.Raise():
                found = _strings(node)
            case ast.Call(func=ast.Attribute(attr="log" | "task" | "advance")):
                found = _strings(node)
            case ast.Call(func=ast.Name(id="dataclass")):
                flags = ("frozen", "kw_only", "slots")
                found = [each.value for each in node.keywords if each.arg in flags]
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                found = [*node.body]
        for part in found:
            if part is not None:
                yield _span(part, lines)
    for statement in tree.body:
        if _is_type_alias(statement):
            yield _span(statement, lines)


def _strings(node: ast.AST) -> list[ast.AST | None]:
    return [
        part
        for part in ast.walk(node)
        if isinstance(part, ast.JoinedStr)
        or (isinstance(part, ast.Constant) and isinstance(part.value, str))
    ]


def _is_type_alias(statement: ast.stmt) -> bool:
    """Say whether it is ``Name = Other[...]`` or ``Name = A | B``, or annotated as an alias."""
    match statement:
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() | ast.BinOp()):
            return name.lstrip("_")[:1].isupper() and not name.isupper()
    return False


def _span(node: ast.AST, lines: list[str]) -> Span:
    """Return where a node stands. ``ast`` counts columns in bytes, parso in characters."""
    assert isinstance(node, ast.expr | ast.stmt) and node.end_lineno is not None

    def characters(line: int, num_bytes: int | None) -> int:
        return len(lines[line - 1].encode()[:num_bytes].decode())

    start = node.lineno, characters(node.lineno, node.col_offset)
    return start, (node.end_lineno, characters(node.end_lineno, node.end_col_offset))


def _scopes(tree: ast.AST, prefix: str = "") -> list[tuple[int, int, str]]:
    """Return first line, last line and qualified name of each function and class."""
    found = []
    for node in ast.iter_child_nodes(tree):
        inner = prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{prefix}{node.name}."
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found.append((first, node.end_lineno or first, inner))
        found += _scopes(node, inner)
    return found


def _innermost(scopes: list[tuple[int, int, str]], line: int) -> str:
    inside = [(last - first, name) for first, last, name in scopes if first <= line <= last]
    return min(inside)[1] if inside else ""


def _used(name: str) -> bool:
    if name in ("VariableReplacer", "VariableInserter"):
        return False
    kind, *ends = name.split("_")
    identity = [end in ("Is", "IsNot") for end in ends]
    return kind != "ReplaceComparisonOperator" or all(identity) or not any(identity)


_PROVIDER = OperatorProvider()
_OPERATORS: dict[str, Operator] = {
    name: _PROVIDER[name]() for name in sorted(_PROVIDER) if _used(name)
}
