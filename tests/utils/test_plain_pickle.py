"""Pickles made by hand: numpy never sees a state that a file chose, and no key hashes for ever."""

from __future__ import annotations

import pickle as p
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.plain_pickle import read_plain_bytes
from tests.pseudo.test_predictions import some


def name(module: str, attribute: str) -> bytes:
    return p.GLOBAL + f"{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    return p.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return p.LONG1 + bytes([8]) + struct.pack("<q", value)


def raw(value: bytes) -> bytes:
    return p.BINBYTES + struct.pack("<I", len(value)) + value


def group(*parts: bytes) -> bytes:
    return p.MARK + b"".join(parts) + p.TUPLE


def dtype(kind: str, state: bytes = b"") -> bytes:
    made = name("numpy", "dtype") + group(text(kind), p.NEWFALSE, p.NEWTRUE) + p.REDUCE
    return made + (state + p.BUILD if state else b"")


def state(flags: int, names: bytes = p.NONE, fields: bytes = p.NONE, size: int = -1) -> bytes:
    return group(
        number(3), text("|"), p.NONE, names, fields, number(size), number(-1), number(flags)
    )


def array(kind: bytes, shape: tuple[int, ...], content: bytes) -> bytes:
    made = name("numpy._core.multiarray", "_reconstruct")
    made += group(name("numpy", "ndarray"), group(number(0)), raw(b"b")) + p.REDUCE
    sizes = group(*map(number, shape))
    return made + group(number(1), sizes, kind, p.NEWFALSE, raw(content)) + p.BUILD


def buffered(kind: bytes, count: int, content: bytes) -> bytes:
    made = name("numpy._core.numeric", "_frombuffer")
    return made + group(raw(content), kind, group(number(count)), text("C")) + p.REDUCE


POINTER = struct.pack("<Q", 0x4142434445464748) * 4
FIELDS = p.EMPTY_DICT + p.MARK + text("a") + group(dtype("f8"), number(1 << 40)) + p.SETITEMS
BOMB = text("x") + p.MEMOIZE + (p.DUP + p.TUPLE2) * 60 + p.NONE + p.SETITEM
NESTED_KEY = text("x") + (p.BINPUT + b"\1" + p.BINGET + b"\1" + p.TUPLE2) * 60 + p.NONE + p.SETITEM
LAUGHS = p.EMPTY_LIST + (
    (p.BINPUT + b"\1" + p.POP + p.EMPTY_LIST + p.MARK + (p.BINGET + b"\1") * 9 + p.APPENDS) * 20
)
CASES = {
    "object": array(dtype("O8"), (4,), POINTER),
    "object with a state": array(dtype("O8", state(0)), (4,), POINTER),
    "object with flags": array(dtype("O8", state(1)), (4,), POINTER),
    "object of a buffer": buffered(dtype("O8", state(0x3F)), 4, POINTER),
    "field out of bounds": buffered(dtype("V8", state(0, group(text("a")), FIELDS, 8)), 4, POINTER),
    "number with fields": buffered(dtype("f8", state(0, group(text("a")), FIELDS, 8)), 4, POINTER),
    "large items": buffered(dtype("f8", state(0, size=1 << 20)), 4, POINTER),
    "negative items": buffered(dtype("U2", state(0, size=-8)), 4, POINTER),
    "text past its buffer": array(dtype("U1024", state(8, size=4096)), (4,), POINTER),
    "text that is none": array(dtype("U2", state(8, size=8)), (4,), POINTER),
    "huge shape": array(dtype("f8"), (1 << 62, 4), POINTER),
    "negative shape": array(dtype("f8"), (-1, -4), POINTER),
    "dtype alone": dtype("f8"),
    "array without bytes": name("numpy._core.multiarray", "_reconstruct") + group() + p.REDUCE,
    "state of a list": p.EMPTY_LIST + group() + p.BUILD,
    "lists of lists": LAUGHS,
    "one array for ever": raw(bytes(4096)) + p.BINPUT + b"\1" + p.POP
    + (name("numpy._core.numeric", "_frombuffer")
       + group(p.BINGET + b"\1", dtype("f8"), group(number(512)), text("C"))
       + p.REDUCE + p.POP) * 500 + p.NONE,
    "frozen set": p.MARK + p.FROZENSET,
    "extension": p.EXT1 + b"\1",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_forged_arrays_are_refused(tmp_path: Path, case: str) -> None:
    content = p.EMPTY_DICT + p.MARK + text("meta") + CASES[case] + p.SETITEMS + p.STOP
    path = tmp_path / "forged.pkl"
    path.write_bytes(p.PROTO + b"\x04" + content)
    with pytest.raises(UserError, match=r"forged\.pkl: refused: ") as caught:
        read_results(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", [BOMB, NESTED_KEY, number(1) + p.NONE + p.SETITEM])
@pytest.mark.timeout(5)
def test_keys_are_texts(tmp_path: Path, key: bytes) -> None:
    path = tmp_path / "bomb.pkl"
    path.write_bytes(p.PROTO + b"\x04" + p.EMPTY_DICT + key + p.STOP)
    with pytest.raises(UserError, match=r"bomb\.pkl: refused"):
        read_results(path)


@pytest.mark.parametrize("protocol", range(6))
def test_values_are_those_of_python(protocol: int) -> None:
    rng = np.random.default_rng(0)
    arrays = [
        rng.normal(size=(3, 4)).astype(np.float32),
        np.asfortranarray(rng.normal(size=(3, 4))),
        np.arange(5, dtype=">i8"),
        np.array(["é", "走", ""]),
        np.zeros((0, 4), np.float32),
        np.uint8(3)[...],
    ]
    plain = {"a": [1, -(1 << 40), 2.5, None, True, "é\n"], "t": (1, (2, 3, 4), ()), "d": {}}
    content = p.dumps({"arrays": arrays, "plain": plain}, protocol=protocol)
    found = read_plain_bytes(content)
    assert found["plain"] == plain
    for before, after in zip(arrays, found["arrays"], strict=True):
        np.testing.assert_array_equal(before, after)
        assert before.dtype == after.dtype
        assert after.flags.writeable


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_damaged_files_are_read_or_refused(tmp_path: Path, protocol: int) -> None:
    some().save(tmp_path / "whole.pkl")
    whole = p.dumps(read_plain_bytes((tmp_path / "whole.pkl").read_bytes()), protocol=protocol)
    rng = random.Random(protocol)
    path = tmp_path / "damaged.pkl"
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        message = ""
        try:
            read_results(path)
        except UserError as error:
            message = str(error)
        assert not message or str(path) in message
        assert "\n" not in message
