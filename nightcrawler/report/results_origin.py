"""Results files against the place that they lie in: whose they are, by their own metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightcrawler.utils.file_hashes import FileHashes


def find_other_origin(
    meta: Mapping[str, Any],
    split: str,
    pair: tuple[int, int] | None,
    weights: Path,
    hashes: FileHashes,
) -> str:
    """Return the first field of results that does not fit their place, or an empty text.

    Args:
        meta: of the results file. Lacking fields, as in files of earlier versions, count as right.
        split: that the file should be of.
        pair: its views and crops, None for any.
        weights: checkpoint that it should be of. Where it is gone, any is right.
        hashes: of the checkpoints.
    """
    wanted: dict[str, Any] = {"split": split}
    if pair is not None:
        wanted |= {"views": pair[0], "crops": pair[1]}
    if weights.is_file() and meta.get("checkpoint_sha256"):
        wanted["checkpoint_sha256"] = hashes.of(weights)
    for name, value in wanted.items():
        found = meta.get(name)
        if found not in (None, "", value):
            return f"{name} {str(found)[:16]}, expected {str(value)[:16]}"
    return ""
