"""A pickle read as data: nothing in it is imported, called or built.

Python's own unpickler imports what a pickle names and calls it, and a class that is allowed still runs its
``__setstate__``. Here the names of a pickle are looked up in a list, and an object becomes a :class:`Record` of its
name, its arguments and its state. Only the operations that such data takes are known; the others are refused.
"""

import pickletools
from collections.abc import Callable, Collection
from typing import Any


class UnsafePickleError(ValueError):
    """A pickle that is damaged, or asks for more than data."""


class Name:
    """A class or function that a pickle names, in full."""

    __slots__ = ("full",)

    def __init__(self, full: str) -> None:
        self.full = full


class Record:
    """An object in a pickle: what would have been called with what, and what state it would have been given."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name, self.arguments = name, arguments
        self.state: Any = None


def read_pickle(data: bytes, allowed: Collection[str]) -> Any:
    """Return the value of a pickle that names nothing but what is ``allowed``.

    Raises:
        UnsafePickleError: it names something else, or is damaged.
    """
    machine = _Machine(allowed)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return machine.stack.pop()
            step = _STEPS.get(opcode.name)
            if step is None:
                raise UnsafePickleError(f"it has the operation {opcode.name}, which no metadata needs")
            step(machine, argument)
    except UnsafePickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise UnsafePickleError("it is damaged, or no pickle") from error
    raise UnsafePickleError("it has no end")


class _Machine:
    """The stack that a pickle's operations work on."""

    def __init__(self, allowed: Collection[str]) -> None:
        self.allowed = allowed
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def nothing(self, _: Any) -> None:
        pass

    def push(self, argument: Any) -> None:
        self.stack.append(argument)

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def since_mark(self) -> list[Any]:
        begin = self.marks.pop()
        found = self.stack[begin:]
        del self.stack[begin:]
        return found

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        found = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(found)

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def name(self, full: str) -> None:
        if full not in self.allowed:
            raise UnsafePickleError(f"it names {full[:200]!r}, which is no part of a checkpoint's metadata")
        self.stack.append(Name(full))

    def stack_name(self, _: Any) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(module, str) and isinstance(attribute, str)):
            raise TypeError
        self.name(f"{module}.{attribute}")

    def record(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not (isinstance(called, Name) and isinstance(arguments, tuple)):
            raise TypeError
        self.stack.append(Record(called.full, arguments))

    def build(self, _: Any) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if not isinstance(built, Record) or built.state is not None:
            raise TypeError
        built.state = state

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError
        self.stack[-1].extend(values)

    def update(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TypeError
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int | Record):  # nested tuples would take forever to hash
                raise TypeError
            target[key] = value


_Step = Callable[[_Machine, Any], None]
_STEPS: dict[str, _Step] = {
    "PROTO": _Machine.nothing,
    "FRAME": _Machine.nothing,
    "MARK": _Machine.mark,
    "NONE": _Machine.push,
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.update([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.update(machine.since_mark()),
    "MEMOIZE": _Machine.memoize,
    "GLOBAL": lambda machine, named: machine.name(named.replace(" ", ".", 1)),
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.record,
    "NEWOBJ": _Machine.record,
    "BUILD": _Machine.build,
}
_STEPS |= dict.fromkeys(
    ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _Machine.push
)


def _put(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


def _get(machine: _Machine, index: int) -> None:
    machine.push(machine.memo[index])


_STEPS |= dict.fromkeys(("BINPUT", "LONG_BINPUT"), _put) | dict.fromkeys(("BINGET", "LONG_BINGET"), _get)
