"""The results file: what a model says of each video of a split, row by row, with the video's name.

On disk it is a pickle of one dict of plain numpy arrays, strings and numbers, read only by a restricted unpickler that
knows three constructors and nothing else.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write

STATUS_OK = "ok"
MAX_FILE_BYTES = 4 << 30
_ALLOWED = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _RestrictedUnpickler(pickle.Unpickler):
    """Builds numpy arrays and plain values; any other class or function is refused before it is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise UserError(
            f"it asks for {module}.{name}, which a results file never needs: do not trust this file"
        )


@dataclass
class Predictions:
    """Predictions of N videos over K classes, in the order of the split's list.

    Attributes:
        logits: float32 `[N, K]`, mean (or maximum) over a video's clips; NaN rows where `status` is not `ok`.
        probs: float32 `[N, K]`, mean of the clips' softmax.
        labels: int64 `[N]`, -1 where unknown.
        names: the N names, as in the list.
        num_clips: int64 `[N]`, clips that were averaged.
        status: per video `ok`, or why there is no prediction.
        meta: split, views, crops, class names, config and checkpoint hashes, enhancement, versions, ...
    """

    logits: np.ndarray
    probs: np.ndarray
    labels: np.ndarray
    names: list[str]
    num_clips: np.ndarray
    status: list[str]
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        num_videos = len(self.names)
        lengths = {
            len(a) for a in (self.logits, self.probs, self.labels, self.num_clips, self.status)
        }
        if (
            lengths != {num_videos}
            or self.logits.ndim != 2
            or self.logits.shape != self.probs.shape
        ):
            raise UserError(
                f"predictions do not fit together: {num_videos} names, logits {self.logits.shape}, "
                f"probs {self.probs.shape}, {len(self.labels)} labels, {len(self.status)} statuses"
            )
        if len(set(self.names)) != num_videos:
            raise UserError(f"predictions hold {first_twice(self.names)} more than once")

    @property
    def ok(self) -> np.ndarray:
        """Bool `[N]`: videos that have a prediction."""
        return np.array([status == STATUS_OK for status in self.status], bool)

    def save(self, path: str | Path) -> None:
        """Write the results file, atomically."""
        content = {
            "video_preds": self.logits.astype(np.float32),
            "video_probs": self.probs.astype(np.float32),
            "video_labels": self.labels.astype(np.int64),
            "video_names": np.array(self.names, dtype=np.str_),
            "num_clips": self.num_clips.astype(np.int64),
            "status": np.array(self.status, dtype=np.str_),
            "meta": self.meta,
        }
        with atomic_write(path) as file:
            pickle.dump(content, file, protocol=4)


def first_twice(names: Sequence[str]) -> str:
    """The first name that is there again, with both rows (of videos, from 1)."""
    first: dict[str, int] = {}
    for row, name in enumerate(names, start=1):
        if first.setdefault(name, row) != row:
            return f"video '{name}' (rows {first[name]} and {row})"
    raise AssertionError("all names differ")


def load_predictions(path: str | Path, names: Sequence[str] | None = None) -> Predictions:
    """Read a results file.

    Args:
        path: the `.pkl` file.
        names: names of the rows, for files in the old two-key form (`video_preds`, `video_labels`) only.

    Raises:
        UserError: if the file is missing, damaged, asks for anything but arrays and plain values, lacks a field,
            or is in the old form and `names` is absent or of another length.
    """
    content = read_plain_pickle(path)
    for key in ("video_preds", "video_labels"):
        if not isinstance(content.get(key), np.ndarray):
            raise UserError(f"{path}: no array '{key}': this is not a results file")
    if "video_names" in content:
        return _from_content(path, content)
    return _from_old_form(path, content, names)


def read_plain_pickle(path: str | Path) -> dict[str, Any]:
    """The dict of arrays and plain values in a pickle, through the restricted unpickler.

    Raises:
        UserError: if it is missing, too large, damaged, not a dict, or asks for any other class or function.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such results file; run the experiment's test.sh first")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UserError(f"{path}: larger than {MAX_FILE_BYTES >> 30} GiB: not a results file")
    try:
        with open(path, "rb") as file:
            content = _RestrictedUnpickler(file).load()
    except UserError as error:
        raise UserError(f"{path}: refused: {error}") from None
    except Exception as error:
        raise UserError(
            f"{path}: not a readable results file ({type(error).__name__}: {error})"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, expected a dict of arrays")
    return content


def _from_content(path: str | Path, content: dict[str, Any]) -> Predictions:
    missing = [key for key in ("video_probs", "num_clips", "status", "meta") if key not in content]
    if missing:
        raise UserError(f"{path}: a results file without {', '.join(missing)}")
    for key, kinds in (
        ("video_preds", "f"),
        ("video_probs", "f"),
        ("video_labels", "iu"),
        ("num_clips", "iu"),
    ):
        if not isinstance(content[key], np.ndarray) or content[key].dtype.kind not in kinds:
            raise UserError(f"{path}: '{key}' is not an array of numbers")
    forms = {"video_preds": 2, "video_probs": 2, "video_labels": 1, "num_clips": 1}
    wrong = [key for key, ndim in forms.items() if content[key].ndim != ndim]
    wrong += [] if isinstance(content["meta"], dict) else ["meta"]
    if wrong:
        raise UserError(f"{path}: '{wrong[0]}' is of another form: not a results file")
    try:
        return Predictions(
            logits=content["video_preds"],
            probs=content["video_probs"],
            labels=content["video_labels"],
            names=_texts(content, "video_names"),
            num_clips=content["num_clips"],
            status=_texts(content, "status"),
            meta=dict(content["meta"]),
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _texts(content: dict[str, Any], key: str) -> list[str]:
    """A list of text; equal ones are one object, in all files: five of a million names are joined in little memory."""
    array = content[key]
    if not isinstance(array, np.ndarray) or array.dtype.kind != "U" or array.ndim != 1:
        raise UserError(f"'{key}' is not a list of text")
    return list(map(sys.intern, array.tolist()))


def _from_old_form(
    path: str | Path, content: dict[str, Any], names: Sequence[str] | None
) -> Predictions:
    if names is None:
        raise UserError(
            f"{path}: an old results file without names; give the list file that names its rows"
        )
    if any(content[key].dtype.kind not in "fiu" for key in ("video_preds", "video_labels")):
        raise UserError(f"{path}: 'video_preds' or 'video_labels' is not an array of numbers")
    logits = np.asarray(content["video_preds"], np.float32)
    if logits.ndim != 2 or len(names) != len(logits):
        raise UserError(
            f"{path}: {logits.shape} predictions but {len(names)} names: not the list of this file"
        )
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Predictions(
        logits=logits,
        probs=shifted / shifted.sum(axis=1, keepdims=True),
        labels=np.asarray(content["video_labels"], np.int64).reshape(-1),
        names=list(names),
        num_clips=np.ones(len(names), np.int64),
        status=[STATUS_OK] * len(names),
        meta={"form": "old: sums over clips, no names"},
    )
