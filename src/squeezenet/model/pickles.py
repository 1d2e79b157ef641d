"""A pickle read as plain data. Nothing that it names is imported, looked up or called.

Lists, dictionaries, numbers and texts are what they say. Every object of a class becomes an
``Instance``, which only remembers what the pickle said of it. The reader of ``.pth`` files adds
functions of its own for tensors (``build``). It follows the machine of Python's ``pickletools``.

Time and memory are bounded by the length of the pickle and the number of its operations. Keys of
dictionaries are text or small numbers, so none takes long to hash, and no choice of them makes a
dictionary slow; for any other key an ``OtherKey`` stands.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, TypeAlias

MAX_OPERATIONS = 1_000_000
"""The state_dict of torchvision's SqueezeNets takes about 2,300."""
MAX_ARGUMENTS = 16
"""Calls with more are remembered, not made; those that make tensors have at most 8."""
_MAX_NAME = 80
MAX_KEY_NUMBER = (1 << 16) - 1
"""The largest number that is kept as a key: an optimiser numbers its parameters."""


class PickleError(ValueError):
    """The bytes are not a pickle, or one with operations that no weights need."""


@dataclass(frozen=True, kw_only=True)
class GlobalName:
    """A class or function that a pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class OtherKey:
    """Stands for a key of a dictionary that is neither text nor a small number."""


@dataclass(eq=False, repr=False, kw_only=True)
class Instance:
    """An object of a class that was not made. ``of`` names the class, ``state`` has its attributes.

    A class that is itself made by the pickle has no name: writing it out may take for ever.
    ``entries`` are what was stored in it as in a dictionary, ``items`` as in a list.
    """

    of: GlobalName | None
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)

    @property
    def class_name(self) -> str:
        """The name of its class, for messages."""
        return str(self.of)[:_MAX_NAME] if self.of else "an object"


def make_instance(of: Any) -> Instance:
    """Stand for what a call of ``of`` would make, whatever that is."""
    return Instance(of=of if isinstance(of, GlobalName) else None)


Build: TypeAlias = Callable[..., Any]
"""Makes a value of a call's arguments; None if it cannot."""


def read_pickle(
    stream: IO[bytes],
    *,
    build: Mapping[str, Build] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Read one pickle and leave ``stream`` after it.

    ``build`` maps names such as ``collections.OrderedDict`` to functions that stand for them.
    ``persistent`` maps a persistent id, such as that of a storage, to a value.

    Raises:
        PickleError: see the class.
    """
    machine = _Machine(_BUILD | dict(build or {}), persistent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about escapes in texts
            for num, (operation, argument, _) in enumerate(pickletools.genops(stream)):
                if num >= MAX_OPERATIONS:
                    raise PickleError(f"has over {MAX_OPERATIONS:,} operations")
                machine.run(operation.name, argument)
        return machine.stack.pop()
    except PickleError:
        raise
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        # Cut short, not text, nothing on the stack, ...
        raise PickleError(f"is damaged or cut short ({type(error).__name__})") from None


def _plain_dict(pairs: Any = None) -> dict[Any, Any]:
    """Make a dictionary. Nothing is copied twice, or a few bytes could ask for hours of copying."""
    if isinstance(pairs, list):  # as Python 2 wrote OrderedDict
        made = {_key(key): value for key, value in pairs}
        pairs.clear()
        return made
    return pairs if isinstance(pairs, dict) else {}


def _list(items: Any = None) -> list[Any]:
    return items if isinstance(items, list) else []


_BUILD: dict[str, Build] = {
    "collections.OrderedDict": _plain_dict,
    "collections.defaultdict": lambda factory=None, pairs=None: _plain_dict(pairs),
    "collections.Counter": _plain_dict,
    "builtins.dict": _plain_dict,
    "__builtin__.dict": _plain_dict,
    # Sets become lists: their elements would be hashed.
    **{f"{place}.{kind}": _list for place in ("builtins", "__builtin__")
       for kind in ("list", "set", "frozenset")},
    "copyreg._reconstructor": lambda of, *rest: make_instance(of),
    "copy_reg._reconstructor": lambda of, *rest: make_instance(of),
}  # fmt: skip


def _key(key: Any) -> Any:
    """Return a key that is fast to hash and to find."""
    small = isinstance(key, int) and 0 <= key <= MAX_KEY_NUMBER
    return key if small or isinstance(key, str) else OtherKey()


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, build: Mapping[str, Build], persistent: Callable[[Any], Any] | None) -> None:
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._build = build
        self._persistent = persistent

    def run(self, name: str, argument: Any) -> None:
        """Do one operation; ``name`` is that of ``pickletools``."""
        if name in _ARGUMENTS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _METHODS:
            _METHODS[name](self, argument)
        elif name not in _NOTHING:
            raise PickleError(f"has the operation {name}")

    def _pop_mark(self) -> list[Any]:
        above, self.stack = self.stack, self._below.pop()
        return above

    def _drop_mark(self, argument: Any) -> None:
        self._pop_mark()

    def _mark(self, argument: Any) -> None:
        self._below.append(self.stack)
        self.stack = []

    def _pop(self, argument: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._pop_mark()

    def _put(self, argument: Any) -> None:
        index = len(self._memo) if argument is None else argument
        if not 0 <= index < MAX_OPERATIONS:
            raise PickleError(f"has memo index {str(index)[:20]}")
        self._memo[index] = self.stack[-1]

    def _get(self, argument: Any) -> None:
        if argument not in self._memo:
            raise PickleError(f"refers to memo {str(argument)[:20]}, which is empty")
        self.stack.append(self._memo[argument])

    def _tuple(self, size: int | None) -> None:
        if size is None:
            values = tuple(self._pop_mark())
            self.stack.append(values)
            return
        if len(self.stack) < size:
            raise PickleError("takes a value from an empty stack")
        values = tuple(self.stack[-size:])
        self.stack[-size:] = [values]

    def _list(self, argument: Any) -> None:
        values = self._pop_mark()
        self.stack.append(values)

    def _append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Instance):
            target.items.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise PickleError("appends to what is no list")

    def _set(self, target: Any, values: list[Any]) -> None:
        if isinstance(target, Instance):
            target = target.entries
        if not isinstance(target, dict) or len(values) % 2:
            raise PickleError("stores a key in what is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_key(key)] = value

    def _dict(self, argument: Any) -> None:
        values = self._pop_mark()
        self.stack.append({})
        self._set(self.stack[-1], values)

    def _set_item(self, argument: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [key, value])

    def _set_items(self, argument: Any) -> None:
        values = self._pop_mark()
        self._set(self.stack[-1], values)

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(GlobalName(module=module, name=name))

    def _stack_global(self, argument: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleError("names a class by what is no text")
        self.stack.append(GlobalName(module=module, name=name))

    def _call(self, of: object, arguments: Any) -> None:
        if not isinstance(arguments, tuple):
            raise PickleError("makes an object of what are no arguments")
        function = self._build.get(str(of)) if isinstance(of, GlobalName) else None
        made = function(*arguments) if function and len(arguments) <= MAX_ARGUMENTS else None
        self.stack.append(make_instance(of) if made is None else made)

    def _reduce(self, argument: Any) -> None:
        arguments, of = self.stack.pop(), self.stack.pop()
        self._call(of, arguments)

    def _new_with_keywords(self, argument: Any) -> None:
        self.stack.pop()
        self._reduce(argument)

    def _instance(self, argument: str) -> None:
        arguments = tuple(self._pop_mark())
        self._global(argument)
        self._call(self.stack.pop(), arguments)

    def _object(self, argument: Any) -> None:
        of, *arguments = self._pop_mark()
        self._call(of, tuple(arguments))

    def _set_state(self, argument: Any) -> None:
        state = self.stack.pop()
        if isinstance(target := self.stack[-1], Instance):
            target.state = state

    def _persistent_id(self, argument: Any) -> None:
        if self._persistent is None:
            raise PickleError("has a persistent id")
        self.stack.append(self._persistent(argument))


_ARGUMENTS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE",
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "FLOAT", "BINFLOAT",
}  # fmt: skip
"""Operations that put their argument on the stack."""
_NOTHING = frozenset(("PROTO", "FRAME", "STOP"))
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_METHODS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "POP": _Machine._pop,
    "POP_MARK": _Machine._drop_mark,
    "DUP": lambda machine, argument: machine.stack.append(machine.stack[-1]),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine._get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine._put),
    "TUPLE": lambda machine, argument: machine._tuple(None),
    "TUPLE1": lambda machine, argument: machine._tuple(1),
    "TUPLE2": lambda machine, argument: machine._tuple(2),
    "TUPLE3": lambda machine, argument: machine._tuple(3),
    **dict.fromkeys(
        ("EMPTY_LIST", "EMPTY_SET"), lambda machine, argument: machine.stack.append([])
    ),
    **dict.fromkeys(("LIST", "FROZENSET"), _Machine._list),
    "APPEND": lambda machine, argument: machine._append([machine.stack.pop()]),
    **dict.fromkeys(
        ("APPENDS", "ADDITEMS"), lambda machine, argument: machine._append(machine._pop_mark())
    ),
    "EMPTY_DICT": lambda machine, argument: machine.stack.append({}),
    "DICT": _Machine._dict,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._reduce,
    "NEWOBJ_EX": _Machine._new_with_keywords,
    "INST": _Machine._instance,
    "OBJ": _Machine._object,
    "BUILD": _Machine._set_state,
    "PERSID": _Machine._persistent_id,
    "BINPERSID": lambda machine, argument: machine._persistent_id(machine.stack.pop()),
}
