"""Read a pickle of plain values and arrays without the unpickler.

The machine below knows the opcodes that plain values need. Classes and functions are never looked
up: names of them are values, of which those of numpy arrays are understood. Python's own unpickler
hands whatever state a file holds to numpy, and hashes keys that never end.
"""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from nightcrawler.utils.errors import UserError

MAX_OPCODES = 2_000_000
MAX_NESTING = 32
MAX_INT_BITS = 128
MAX_SIDE = 1 << 32
MAX_CODE_POINT = 0x10FFFF
# Parts of numpy arrays, whose modules numpy 1 and numpy 2 name differently.
_RECONSTRUCT = {"numpy._core.multiarray _reconstruct", "numpy.core.multiarray _reconstruct"}
_FROM_BUFFER = {"numpy._core.numeric _frombuffer", "numpy.core.numeric _frombuffer"}
_ENCODE = "_codecs encode"
_DTYPE = "numpy dtype"
_ARRAY = "numpy ndarray"
# How protocol 2 and older write no bytes at all.
_NO_BYTES = {"__builtin__ bytes", "builtins bytes"}
_KNOWN = _RECONSTRUCT | _FROM_BUFFER | _NO_BYTES | {_ENCODE, _DTYPE, _ARRAY}
_DTYPE_TEXT = re.compile(r"[<>|=]?(f[248]|[iu][1248]|U\d{1,6})")
_MARK = object()
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_VALUES = {
    "INT",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG",
    "LONG1",
    "LONG4",
    "FLOAT",
    "BINFLOAT",
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "UNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "BYTEARRAY8",
}


class _Name(str):
    """Name of a class or function in a file, which is not looked up."""


class _Dtype:
    """Stand-in of a numpy dtype: kind, item size and byte order."""

    def __init__(self, text: Any) -> None:
        if not isinstance(text, str) or not _DTYPE_TEXT.fullmatch(text):
            raise UserError("an array of it holds something else than numbers or text")
        self.dtype = np.dtype(text)

    def set_state(self, state: Any) -> None:
        """Take the byte order of a dtype's state, the rest of which must say what is known."""
        if not isinstance(state, tuple) or len(state) != 8 or state[1] not in ("<", ">", "|", "="):
            raise UserError("the state of a dtype in it is of another form")
        size = self.dtype.itemsize if self.dtype.kind == "U" else -1
        if state[2:5] != (None, None, None) or type(state[5]) is not int or state[5] != size:
            raise UserError("the state of a dtype in it is of another form")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stand-in of a numpy array, until its bytes are known."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        """Make the array of its shape, dtype and bytes."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise UserError("the state of an array in it is of another form")
        _, shape, dtype, fortran, content = state
        self.fill(content, dtype, shape, "F" if fortran is True else "C")

    def fill(self, content: Any, dtype: Any, shape: Any, order: Any) -> None:
        """Make the array, whose number of bytes must be that of its shape."""
        if not isinstance(content, bytes | bytearray) or not isinstance(dtype, _Dtype):
            raise UserError("an array in it is not made of bytes and a dtype")
        if not isinstance(shape, tuple) or order not in ("C", "F"):
            raise UserError("the shape of an array in it is of another form")
        self.value = make_array(content, dtype.dtype, shape, order)


def make_array(
    content: bytes | bytearray, kind: np.dtype, shape: tuple[Any, ...], order: Literal["C", "F"]
) -> np.ndarray:
    """Make an array of bytes whose number must be that of its shape.

    Args:
        content: Its bytes, which are copied.
        kind: Dtype of numbers or text.
        shape: Its shape, as a file says.
        order: `C` or `F`, the order of the bytes.

    Raises:
        UserError: If the bytes do not fit the shape, or are no characters of a text.

    Example:
        >>> make_array(bytes(8), np.dtype("u1"), (2, 4), "C").shape
        (2, 4)
    """
    if len(shape) > MAX_NESTING:
        raise UserError("the shape of an array in it is of another form")
    count = 1
    for size in shape:
        if type(size) is not int or not 0 <= size <= MAX_SIDE:
            raise UserError("the shape of an array in it does not fit its bytes")
        count *= size
    if count * kind.itemsize != len(content) or not kind.itemsize:
        raise UserError("the shape of an array in it does not fit its bytes")
    values = np.zeros(0, kind)
    if count:
        # A copy: arrays of a buffer cannot be written to.
        values = np.frombuffer(content, kind).copy()
    if count and kind.kind == "U":
        points = np.frombuffer(content, np.dtype("u4").newbyteorder(kind.byteorder))
        if points.max() > MAX_CODE_POINT:
            raise UserError("a text in it holds numbers that are no characters")
    return values.reshape(shape, order=order)


def read_plain_bytes(content: bytes) -> Any:
    """Return the value of a pickle of numpy arrays and plain values, whose dicts have text keys.

    Args:
        content: The pickle.

    Raises:
        UserError: If it asks for anything else, or for more than its own size.
        ValueError: If it is no pickle, or damaged.

    Example:
        >>> read_plain_bytes(pickle.dumps({"seed": 1}))
        {'seed': 1}
    """
    machine = _Machine(len(content))
    try:
        return machine.run(content)
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged: {type(error).__name__}") from None


class _Machine:
    """Stack machine of the pickle opcodes that plain values need."""

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        # Bytes that arrays may take: each has bytes of its own in a file of ours, which protocol 2
        # and older take twice: as text, and encoded.
        self.bytes_left = 2 * size + 1024
        self.values_left = MAX_OPCODES

    def run(self, content: bytes) -> Any:
        """Return the value that a pickle leaves on the stack."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
            if count >= MAX_OPCODES:
                raise UserError(f"it has more than {MAX_OPCODES} steps")
            self.step(opcode.name, argument)
        return self.plain(self.stack.pop(), 0)

    def step(self, name: str, argument: Any) -> None:
        """Take one opcode."""
        if name in ("PROTO", "FRAME", "STOP"):
            return
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _VALUES:
            if isinstance(argument, int) and argument.bit_length() > MAX_INT_BITS:
                raise UserError("a number in it is too large")
            self.stack.append(argument)
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "POP":
            self.stack.pop()
        else:
            handler = getattr(self, f"do_{name.lower()}", None)
            if handler is None:
                raise UserError(f"it asks for {name}, which a results file never needs")
            handler(argument)

    def since_mark(self) -> list[Any]:
        """Take all values off the stack that were put on it since the last mark."""
        values: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        values.reverse()
        return values

    def do_tuple(self, _: Any) -> None:
        """Put a tuple of all values since the mark."""
        self.stack.append(tuple(self.since_mark()))

    def do_tuple1(self, _: Any) -> None:
        """Put a tuple of the last value."""
        self.take_tuple(1)

    def do_tuple2(self, _: Any) -> None:
        """Put a tuple of the last two values."""
        self.take_tuple(2)

    def do_tuple3(self, _: Any) -> None:
        """Put a tuple of the last three values."""
        self.take_tuple(3)

    def take_tuple(self, length: int) -> None:
        """Put a tuple of the last values."""
        values = tuple(self.stack[-length:])
        if len(values) != length:
            raise IndexError
        del self.stack[-length:]
        self.stack.append(values)

    def do_list(self, _: Any) -> None:
        """Put a list of all values since the mark."""
        self.stack.append(self.since_mark())

    def do_append(self, _: Any) -> None:
        """Append the last value to the list below it."""
        value = self.stack.pop()
        self.extend([value])

    def do_appends(self, _: Any) -> None:
        """Append all values since the mark to the list below it."""
        self.extend(self.since_mark())

    def extend(self, values: list[Any]) -> None:
        """Extend the list on the stack."""
        if not isinstance(self.stack[-1], list):
            raise TypeError
        self.stack[-1].extend(values)

    def do_dict(self, _: Any) -> None:
        """Put a dict of all values since the mark."""
        values = self.since_mark()
        self.stack.append({})
        self.update(values)

    def do_setitem(self, _: Any) -> None:
        """Put the last two values into the dict below them."""
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def do_setitems(self, _: Any) -> None:
        """Put all values since the mark into the dict below it."""
        self.update(self.since_mark())

    def update(self, values: list[Any]) -> None:
        """Put keys and values into the dict on the stack."""
        target = self.stack[-1]
        if not isinstance(target, dict) or len(values) % 2:
            raise TypeError
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Hashing a key of tuples can take for ever, and a file of ours has none.
            if type(key) is not str:
                raise UserError("a key of a dict in it is no text: do not trust this file")
            target[key] = value

    def do_global(self, name: str) -> None:
        """Put a name of a class or function."""
        if name not in _KNOWN:
            raise UserError(
                f"it asks for {name.replace(' ', '.')[:80]!r}, which a results file never needs: "
                "do not trust this file"
            )
        self.stack.append(_Name(name))

    def do_stack_global(self, _: Any) -> None:
        """Put a name of a class or function, whose two parts are on the stack."""
        name, module = self.stack.pop(), self.stack.pop()
        self.do_global(f"{module} {name}")

    def do_reduce(self, _: Any) -> None:
        """Put the stand-in that a name and its arguments stand for."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise UserError("it calls what is no part of an array: do not trust this file")
        if name == _ENCODE:
            self.stack.append(self.encoded(*arguments))
        elif name == _DTYPE:
            self.stack.append(_Dtype(arguments[0]))
        elif name in _NO_BYTES and not arguments:
            self.stack.append(b"")
        elif name in _RECONSTRUCT:
            self.stack.append(_Array())
        elif name in _FROM_BUFFER:
            array = _Array()
            self.spend(arguments[0])
            array.fill(*arguments)
            self.stack.append(array)
        else:
            raise UserError("it calls what is no part of an array: do not trust this file")

    def encoded(self, text: Any, encoding: Any = "latin1") -> bytes:
        """Return the bytes that protocol 2 and older hold as text."""
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise UserError("it asks for an encoding that a results file never needs")
        self.spend(text)
        return text.encode("latin1")

    def spend(self, content: Any) -> None:
        """Count the bytes of an array: a file that names some of its bytes often is a bomb."""
        self.bytes_left -= len(content)
        if self.bytes_left < 0:
            raise UserError("its arrays are larger than the file: do not trust this file")

    def do_build(self, _: Any) -> None:
        """Give a stand-in its state."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Array | _Dtype):
            raise UserError("it sets the state of what is no array: do not trust this file")
        if isinstance(target, _Array) and isinstance(state, tuple) and len(state) == 5:
            self.spend(state[4])
        target.set_state(state)

    def plain(self, value: Any, depth: int) -> Any:
        """Return a value with arrays in the place of their stand-ins."""
        self.values_left -= 1
        if depth > MAX_NESTING or self.values_left < 0:
            raise UserError("its values are nested without end: do not trust this file")
        if isinstance(value, dict):
            return {key: self.plain(part, depth + 1) for key, part in value.items()}
        if isinstance(value, list):
            return [self.plain(part, depth + 1) for part in value]
        if isinstance(value, tuple):
            return tuple(self.plain(part, depth + 1) for part in value)
        if isinstance(value, _Array):
            if value.value is None:
                raise UserError("an array in it has no bytes")
            return value.value
        if isinstance(value, _Name | _Dtype) or value is _MARK:
            raise UserError("it holds what is no plain value: do not trust this file")
        return value
