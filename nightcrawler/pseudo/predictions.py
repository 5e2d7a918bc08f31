"""Results files: a model's predictions for each video of a split, with the videos' names.

A results file is an `.npz` of arrays and of metadata as JSON, or in the published form a pickle of
one dict of plain numpy arrays, strings and numbers. Both are read by `utils/npz.py` and
`utils/plain_pickle.py`, which run and look up nothing that a file names.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, plain_names
from nightcrawler.utils.npz import ZIP_START, read_npz_bytes, write_npz
from nightcrawler.utils.plain_pickle import read_plain_bytes

STATUS_OK = "ok"
MAX_FILE_BYTES = 4 << 30
# Array fields of a results file: allowed kinds of dtype, and number of dimensions.
_ARRAYS = {
    "video_preds": ("f", 2),
    "video_probs": ("f", 2),
    "video_labels": ("iu", 1),
    "num_clips": ("iu", 1),
}
# Types of the metadata that others compare, group by or print.
_META: dict[str, type] = {
    "seed": int,
    "split": str,
    "model": str,
    "labels": str,
    "config_hash": str,
    "checkpoint_sha256": str,
    "versions": dict,
    "class_names": list,
}


@dataclass
class Predictions:
    """Predictions for N videos over K classes, in the order of the split's list.

    Attributes:
        logits: float32 `[N, K]`, mean (or maximum) over a video's clips, with NaN rows where
            `status` is not `ok`.
        probs: float32 `[N, K]`, mean of the clips' softmax.
        labels: int64 `[N]`, -1 where unknown.
        names: names of the N videos, as in the list.
        num_clips: int64 `[N]`, number of clips that were averaged.
        status: for each video `ok`, or the reason for a missing prediction.
        meta: split, views, crops, class names, config and checkpoint hashes, enhancement,
            versions, ...
    """

    logits: np.ndarray
    probs: np.ndarray
    labels: np.ndarray
    names: list[str]
    num_clips: np.ndarray
    status: list[str]
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Files are joined by name, whatever spelling the list of each had.
        self.names = plain_names(self.names)
        num_videos = len(self.names)
        # Files come from users too: a truncated array must not shift rows against names.
        per_video = (self.logits, self.probs, self.labels, self.num_clips, self.status)
        same_length = all(len(values) == num_videos for values in per_video)
        same_shape = self.logits.ndim == 2 and self.logits.shape == self.probs.shape
        if not same_length or not same_shape:
            raise UserError(
                f"predictions do not fit together: {num_videos} names, logits "
                f"{self.logits.shape}, probs {self.probs.shape}, {len(self.labels)} labels, "
                f"{len(self.status)} statuses"
            )
        if len(set(self.names)) != num_videos:
            raise UserError(f"predictions hold {first_duplicate(self.names)} more than once")

    @property
    def ok(self) -> np.ndarray:
        """Mask of the videos that have a prediction, bool `[N]`."""
        return np.array([status == STATUS_OK for status in self.status], bool)

    def save(self, path: str | Path) -> None:
        """Write the results file, atomically.

        Args:
            path: the file. A name that ends in `.npz` gives that form, any other the published
                one, a pickle.
        """
        # Key names are those of the published results files, so that their readers work.
        content: dict[str, Any] = {
            "video_preds": self.logits.astype(np.float32),
            "video_probs": self.probs.astype(np.float32),
            "video_labels": self.labels.astype(np.int64),
            "video_names": np.array(self.names, dtype=np.str_),
            "num_clips": self.num_clips.astype(np.int64),
            "status": np.array(self.status, dtype=np.str_),
        }
        if self.meta.get("class_names"):
            # Also in `meta`, but readers of arrays alone would have to parse that.
            content["class_names"] = np.array(list(map(str, self.meta["class_names"])), np.str_)
        with atomic_write(path) as file:
            if Path(path).suffix == ".npz":
                write_npz(file, {**content, "meta": np.array(json.dumps(self.meta))})
            else:
                pickle.dump({**content, "meta": self.meta}, file, protocol=4)


def softmax(scores: np.ndarray, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Return the softmax over the last axis.

    Args:
        scores: `[..., K]`.
        dtype: dtype of the exponentials and of the result.
    """
    # Without the largest score first, exp overflows for logits above 709.
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True), dtype=dtype)
    return shifted / shifted.sum(axis=-1, keepdims=True)


def first_duplicate(names: Sequence[str]) -> str:
    """Describe the first repeated name, with both of its rows (of videos, from 1).

    Args:
        names: names, at least one of them repeated.
    """
    first: dict[str, int] = {}
    for row, name in enumerate(names, start=1):
        if first.setdefault(name, row) != row:
            return f"video '{name}' (rows {first[name]} and {row})"
    raise AssertionError("all names differ")


def read_results(path: str | Path, names: Sequence[str] | None = None) -> Predictions:
    """Read a results file.

    Args:
        path: the `.npz` or `.pkl` file that `test.sh` wrote.
        names: names of the rows, only for files in the old two-key form (`video_preds`,
            `video_labels`).

    Raises:
        UserError: if the file is missing, damaged, lacks a field or asks for anything but arrays
            and plain values, or if it is in the old form and `names` is absent or of another
            length.

    Example:
        >>> results = read_results("exp_adapt_bn/uniformer_b32_k600/aridx32x224x1x1.npz")
        >>> known = results.ok & (results.labels >= 0)
        >>> (results.probs.argmax(axis=1) == results.labels)[known].mean()
    """
    if not isinstance(path, (str, os.PathLike)):
        raise UserError(f"read_results: {path!r}: expected the path of a results file")
    content = read_content(path)
    for key in ("video_preds", "video_labels"):
        if not isinstance(content.get(key), np.ndarray):
            raise UserError(f"{path}: no array '{key}': this is not a results file")
    # Files written before names were kept have two keys only.
    if "video_names" in content:
        return _from_content(path, content)
    return _from_old_form(path, content, names)


def read_content(path: str | Path) -> dict[str, Any]:
    """Read a dict of arrays and plain values, from an `.npz` file or a pickle, by its first bytes.

    Nothing is unpickled.

    Args:
        path: the file.

    Raises:
        UserError: if it is missing, too large, damaged, not a dict, or asks for any other class
            or function.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such results file; run the experiment's test.sh first")
    # Before unpickling, which would fill the memory.
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UserError(f"{path}: larger than {MAX_FILE_BYTES >> 30} GiB: not a results file")
    try:
        raw = path.read_bytes()
        content = _read_npz(raw) if raw.startswith(ZIP_START) else read_plain_bytes(raw)
    except UserError as error:
        raise UserError(f"{path}: refused: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, MemoryError, RecursionError):
        raise UserError(
            f"{path}: not a readable results file: damaged, truncated, or another kind of file"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, expected a dict of arrays")
    return content


def _read_npz(raw: bytes) -> dict[str, Any]:
    """Return the arrays of an `.npz` file, and its metadata as a dict."""
    content: dict[str, Any] = dict(read_npz_bytes(raw))
    text = content.pop("meta", None)
    if text is not None:
        if text.dtype.kind != "U" or text.ndim:
            raise UserError("'meta' in it is no text")
        content["meta"] = json.loads(str(text))
    return content


def add_labels(predictions: Predictions, labels: Mapping[str, int]) -> None:
    """Fill in the labels of videos without one, for scoring with a list that was kept apart.

    Args:
        predictions: filled in place.
        labels: name to label. Names of other videos are ignored.

    Raises:
        UserError: if a label is none of the predictions' classes.
    """
    num_classes = predictions.probs.shape[1]
    for row, name in enumerate(predictions.names):
        if predictions.labels[row] >= 0:
            continue
        label = labels.get(name, -1)
        if label >= num_classes:
            raise UserError(f"'{name}': true label {label}, expected 0..{num_classes - 1}")
        predictions.labels[row] = label


def _from_content(path: str | Path, content: dict[str, Any]) -> Predictions:
    """Check the fields of a results file, and return its predictions."""
    missing = [key for key in ("video_probs", "num_clips", "status", "meta") if key not in content]
    if missing:
        raise UserError(f"{path}: a results file without {', '.join(missing)}")
    for key, (kinds, _) in _ARRAYS.items():
        if not isinstance(content[key], np.ndarray) or content[key].dtype.kind not in kinds:
            raise UserError(f"{path}: '{key}' is not an array of numbers")
    wrong = [key for key, (_, ndim) in _ARRAYS.items() if content[key].ndim != ndim]
    if not isinstance(content["meta"], dict):
        wrong.append("meta")
    if wrong:
        raise UserError(f"{path}: '{wrong[0]}' is of another form: not a results file")
    _check_meta(path, content["meta"])
    try:
        found = Predictions(
            logits=content["video_preds"],
            probs=content["video_probs"],
            labels=content["video_labels"].astype(np.int64),
            names=_texts(content, "video_names"),
            num_clips=content["num_clips"].astype(np.int64),
            status=_texts(content, "status"),
            meta=dict(content["meta"]),
        )
        _check_rows(found)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return found


def _check_rows(found: Predictions) -> None:
    """Refuse rows that would be scored wrongly: of no class, or of one that is not there."""
    num_classes = found.probs.shape[1]
    empty = found.ok & ~np.isfinite(found.probs).all(axis=1)
    strange = (found.labels < -1) | (found.labels >= num_classes)
    for rows, fault in ((empty, "is 'ok' without probabilities"), (strange, "has a label")):
        if rows.any():
            row = int(np.flatnonzero(rows)[0])
            raise UserError(
                f"'{found.names[row]}' {fault}, label {found.labels[row]}; expected finite "
                f"probabilities and a label from -1 to {num_classes - 1}"
            )


def _check_meta(path: str | Path, meta: dict[str, Any]) -> None:
    """Refuse metadata of other types than those that are written."""
    for key, kind in _META.items():
        value = meta.get(key)
        # A bool is an int to Python.
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise UserError(
                f"{path}: '{key}' in 'meta' is of type {type(value).__name__}, expected "
                f"{kind.__name__}"
            )


def _texts(content: dict[str, Any], key: str) -> list[str]:
    """Return an array of text as a list of interned strings."""
    array = content[key]
    if not isinstance(array, np.ndarray) or array.dtype.kind != "U" or array.ndim != 1:
        raise UserError(f"'{key}' is not a list of text")
    if len(array) and (array == array[0]).all():
        # As the status of most files.
        return [str(array[0])] * len(array)
    texts: list[str] = array.tolist()
    return texts


def _from_old_form(
    path: str | Path, content: dict[str, Any], names: Sequence[str] | None
) -> Predictions:
    """Return the predictions of a two-key file, its rows named by a list."""
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
    return Predictions(
        logits=logits,
        probs=softmax(logits, np.float32),
        labels=np.asarray(content["video_labels"], np.int64).reshape(-1),
        names=list(names),
        num_clips=np.ones(len(names), np.int64),
        status=[STATUS_OK] * len(names),
        meta={"form": "old: sums over clips, no names"},
    )
