"""Arrays of numbers and text in `.npz` files, of which nothing is unpickled."""

from __future__ import annotations

import io
import struct
import tokenize
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

import numpy as np

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.plain_pickle import make_array

# Start of a zip container with entries.
ZIP_START = b"PK\x03\x04"
MAX_ENTRIES = 64
_ENDING = ".npy"
# What damaged containers and headers raise.
_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    struct.error,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class ArrayBlocks:
    """Array that is written block by block, as it may be larger than memory.

    Attributes:
        dtype: Its dtype.
        shape: Its shape `[n, ...]`.
        blocks: Yields arrays whose rows are the n rows.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[np.ndarray]]


def write_npz(file: IO[bytes], arrays: Mapping[str, np.ndarray | ArrayBlocks]) -> None:
    """Write arrays by name, uncompressed. Equal arrays give equal bytes, in blocks or not.

    Args:
        file: Open for writing.
        arrays: Arrays of numbers or text.

    Raises:
        ValueError: If blocks are of another dtype or shape than their array.

    Example:
        >>> write_npz(io.BytesIO(), {"scores": np.zeros((2, 3), np.float32)})
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as container:
        for name, array in arrays.items():
            # Not savez of numpy, whose entries could be told to be pickles.
            with container.open(zipfile.ZipInfo(name + _ENDING), "w", force_zip64=True) as entry:
                if isinstance(array, ArrayBlocks):
                    _write_blocks(entry, array)
                    continue
                np.lib.format.write_array(entry, array, version=(1, 0), allow_pickle=False)


def _write_blocks(entry: IO[bytes], array: ArrayBlocks) -> None:
    descr = np.lib.format.dtype_to_descr(array.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(entry, header)
    num_rows = 0
    for block in array.blocks():
        if block.dtype != array.dtype or block.shape[1:] != array.shape[1:]:
            raise ValueError(f"a block {block.dtype} {block.shape} of {array.dtype} {array.shape}")
        entry.write(np.ascontiguousarray(block).tobytes())
        num_rows += len(block)
    if num_rows != array.shape[0]:
        raise ValueError(f"blocks of {num_rows} rows of {array.shape}")


def read_npz_bytes(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an `.npz` file by name.

    Args:
        content: The file.

    Raises:
        UserError: If it asks for more than its own size, is compressed, or holds other arrays than
            numbers and text.
        ValueError: If it is damaged.

    Example:
        >>> arrays = read_npz_bytes(Path("testx32x224x1x1.npz").read_bytes())
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as container, warnings.catch_warnings():
            # numpy warns of headers that it reads in another way.
            warnings.simplefilter("ignore")
            return _read_entries(container, len(content))
    except _DAMAGE as error:
        raise ValueError(f"damaged: {type(error).__name__}") from None


def _read_entries(container: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    entries = container.infolist()
    if len(entries) > MAX_ENTRIES:
        raise UserError(f"it has more than {MAX_ENTRIES} arrays: do not trust this file")
    # Entries may overlap, and compressed ones may be of any size.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise UserError("its arrays are compressed: write them with numpy.savez")
    if sum(entry.file_size for entry in entries) > size:
        raise UserError("its arrays are larger than the file: do not trust this file")
    arrays: dict[str, np.ndarray] = {}
    for entry in entries:
        # Checks the entry's checksum too.
        arrays[entry.filename.removesuffix(_ENDING)] = _read_array(container.read(entry))
    return arrays


def _read_array(content: bytes) -> np.ndarray:
    """Return the array of a `.npy` file, after its size was compared with its header."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise UserError("an array in it is of an unknown version of .npy")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "fiuU" or dtype.fields is not None or dtype.subdtype is not None:
        raise UserError("an array of it holds something else than numbers or text")
    return make_array(content[file.tell() :], dtype, shape, "F" if fortran else "C")
