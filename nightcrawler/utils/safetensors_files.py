"""Files of safetensors that hold a checksum of their own content.

The format has none: a wrong byte in a tensor is a wrong weight, which no reader notices.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from nightcrawler.utils.errors import UserError

# Name of the checksum in a file's metadata.
CHECKSUM = "content_sha256"
METADATA = "__metadata__"
# A file begins with the number of bytes of its header, which is JSON padded with spaces.
LENGTH_BYTES = 8
# The format's own limit.
MAX_HEADER_BYTES = 100_000_000
ALIGNMENT = 8
BLOCK_BYTES = 1 << 20


def safetensors_bytes(state: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """Return the bytes of a safetensors file with its checksum in the metadata.

    Args:
        state: Name to tensor. Tensors may share memory: each is written alone.
        about: Texts for the metadata.

    Example:
        >>> import torch
        >>> content = safetensors_bytes({"weight": torch.zeros(2)}, {"labels": "label-free"})
    """
    from safetensors.torch import save

    separate = {}
    for name, value in state.items():
        separate[name] = value.clone(memory_format=torch.contiguous_format)
    content = save(separate, {"format": "pt", **about})
    start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    header = json.loads(content[LENGTH_BYTES:start])
    digest = _header_digest(header)
    digest.update(memoryview(content)[start:])
    # Places of tensors are counted from the end of the header, so that it may grow.
    header[METADATA][CHECKSUM] = digest.hexdigest()
    # The format's writer has no order: equal content is equal bytes.
    header[METADATA] = dict(sorted(header[METADATA].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + content[start:]


def check_safetensors(path: Path) -> None:
    """Refuse a file whose content is not that of the checksum in it. Files without one pass.

    Args:
        path: The file. What is no safetensors file is left to the reader of the format.

    Raises:
        UserError: If the two differ.
    """
    with open(path, "rb") as file:
        header = _read_header(file)
        metadata = header.get(METADATA)
        if not isinstance(metadata, dict) or CHECKSUM not in metadata:
            return
        expected = metadata.pop(CHECKSUM)
        try:
            digest = _header_digest(header)
        except RecursionError:
            digest = hashlib.sha256()
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise UserError(
            f"{path}: damaged: its content does not match its own checksum; get the file again"
        )


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts in the metadata of a file, empty if it has none.

    Args:
        path: The file.
    """
    with open(path, "rb") as file:
        metadata = _read_header(file).get(METADATA)
    if not isinstance(metadata, dict):
        return {}
    return {key: text for key, text in metadata.items() if isinstance(text, str)}


def _read_header(file: IO[bytes]) -> dict[str, Any]:
    """Return the header of a file, empty if it has none."""
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if length > MAX_HEADER_BYTES:
        return {}
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _header_digest(header: Mapping[str, Any]) -> hashlib._Hash:
    """Return a digest that has taken a header without its checksum, whatever its spelling."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode())
