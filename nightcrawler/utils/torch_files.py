"""Checks of a file of `torch.save` before torch reads it: checksums, and steps of its pickle."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

from nightcrawler.utils.errors import UserError

MAX_OPCODES = 5_000_000
MAX_PICKLE_BYTES = 512 << 20
# Visits that hashing a value may take. A tuple of a tuple taken twice doubles them.
MAX_HASH_COST = 10_000
# Pickles at the start of a file of torch before 1.6: number, version, system, content, keys.
LEGACY_PICKLES = 5
_HASHED = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE", "NEWOBJ", "NEWOBJ_EX"}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GET = {"GET", "BINGET", "LONG_BINGET"}


def check_torch_file(path: Path) -> None:
    """Refuse a damaged file, and one that would keep the reader busy without end.

    Args:
        path: The file.

    Raises:
        UserError: If a checksum of its zip container differs, or its pickle takes too many steps.

    Example:
        >>> check_torch_file(Path("exp_adapt_bn/uniformer_b32_k600/best.pyth"))
    """
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            _check_legacy(path, file)
        return
    try:
        with zipfile.ZipFile(path) as container:
            for entry in container.infolist():
                if not entry.filename.endswith(".pkl"):
                    continue
                if entry.file_size > MAX_PICKLE_BYTES:
                    raise UserError(f"{path}: refused: {entry.filename} in it is too large")
                with container.open(entry) as file:
                    _check_steps(path, file)
            damaged = container.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError):
        damaged = "its container"
    if damaged is not None:
        raise UserError(
            f"{path}: damaged: {damaged} does not match its own checksum; get the file again"
        )


def _check_legacy(path: Path, file: IO[bytes]) -> None:
    """Check the pickles of a file without a container, as far as there are any."""
    for _ in range(LEGACY_PICKLES):
        try:
            _check_steps(path, file)
        except (ValueError, EOFError, MemoryError, OverflowError):
            # No pickle: the reader says what is wrong.
            return


def _check_steps(path: Path, file: IO[bytes]) -> None:
    """Follow the steps of a pickle by what hashing each value would cost, without making any."""
    stack: list[int | None] = []
    memo: dict[Any, int | None] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count >= MAX_OPCODES:
            raise UserError(f"{path}: refused: its pickle has more than {MAX_OPCODES} steps")
        name = opcode.name
        if name in _PUT and stack:
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in _GET:
            stack.append(memo.get(argument, 1))
        elif name == "MARK":
            stack.append(None)
        elif name == "DUP" and stack:
            stack.append(stack[-1])
        else:
            _take(path, opcode, stack)


def _take(path: Path, opcode: Any, stack: list[int | None]) -> None:
    """Take the operands of a step off the stack, and put the cost of its results."""
    taken = 0
    number = len(opcode.stack_before)
    if pickletools.stackslice in opcode.stack_before:
        while stack and (cost := stack.pop()) is not None:
            taken += cost
        # The mark and the slice.
        number -= 2
    for _ in range(number):
        cost = stack.pop() if stack else None
        taken += cost or 0
    # Lists and dicts cannot be hashed, whatever they hold.
    cost = 1 + taken if opcode.name in _HASHED else 1
    if cost > MAX_HASH_COST:
        raise UserError(f"{path}: refused: values in it are nested without end")
    stack.extend([cost] * len(opcode.stack_after))
