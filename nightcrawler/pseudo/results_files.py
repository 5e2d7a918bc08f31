"""Results files of experiments: where they are, what they say of themselves, and of what is made of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nightcrawler import __version__
from nightcrawler.data.splits import SPLITS, get_split
from nightcrawler.pseudo.ensemble import Joined, join
from nightcrawler.pseudo.predictions import Predictions, load_predictions
from nightcrawler.pseudo.recipe import EnsembleSpec
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, sha256_file

LABEL_FREE, ORACLE = "label-free", "oracle"
META_KEYS = (
    "split",
    "views",
    "crops",
    "model",
    "seed",
    "labels",
    "config_hash",
    "checkpoint_sha256",
)


def results_file(folder: Path, split: str, pair: tuple[int, int]) -> Path:
    """The one results file of a split and of views and crops in an experiment's folder, of any clip size and gammas.

    Raises:
        UserError: if there is none, or several.
    """
    views, crops = pair
    pattern = re.compile(rf"{re.escape(split)}x\d+x\d+x{views}x{crops}(xg[\d.]+(-[\d.]+)*)?\.pkl")
    found = sorted(path for path in folder.glob("*.pkl") if pattern.fullmatch(path.name))
    if not found:
        raise UserError(
            f"{folder}: no results of split '{split}' with {views} views and {crops} crops; run {folder}/test.sh "
            f"TEST.DATA_SELECT {split} TEST.NUM_ENSEMBLE_VIEWS {views} TEST.NUM_SPATIAL_CROPS {crops}"
        )
    if len(found) > 1:
        raise UserError(
            f"{folder}: several results: {', '.join(path.name for path in found)}; keep one of them there"
        )
    return found[0]


def load_joined(
    paths: Sequence[Path],
    ensemble: EnsembleSpec,
    classes: Sequence[str],
    names: Sequence[str] | None = None,
) -> tuple[Joined, list[dict[str, Any]]]:
    """Models' results joined, and what each file says of itself.

    Args:
        paths: a results file for each model of `ensemble`.
        classes: names that the predictions' classes must have, in order; empty: any.
        names: names of rows, for files in the old form.

    Raises:
        UserError: if a file is bad or files do not fit together.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(f"{', '.join(map(str, paths))}: a file is there twice")
    models = [load_predictions(path, names) for path in paths]
    joined = join(models, [str(path) for path in paths], ensemble.scores)
    unnamed = joined.class_names == [str(number) for number in range(len(joined.class_names))]
    if classes and len(classes) == len(joined.class_names) and unnamed:
        joined = replace(joined, class_names=list(classes))
    if classes and joined.class_names != list(classes):
        raise UserError(
            f"{paths[0]}: classes {', '.join(joined.class_names)}, but the recipe has {', '.join(classes)}"
        )
    return joined, [about(path, model) for path, model in zip(paths, models, strict=True)]


def about(path: Path, predictions: Predictions) -> dict[str, Any]:
    """What a results file says of itself, with its hash."""
    known = {key: predictions.meta[key] for key in META_KEYS if key in predictions.meta}
    return {"file": f"{path.parent.name}/{path.name}", "sha256": sha256_file(path), **known}


def label_use(inputs: Sequence[dict[str, Any]], *others: str) -> str:
    """`label-free` where every input and every other part says so; what does not say is not taken for it."""
    said = [*(one.get("labels") for one in inputs), *others]
    return LABEL_FREE if all(one == LABEL_FREE for one in said) else ORACLE


def split_use(names: Iterable[str], prefix: str | Path = "") -> str:
    """Whether learning from or choosing by the labels of these splits is label-free."""
    return ORACLE if any(get_split(name, prefix).has_dark_labels for name in names) else LABEL_FREE


def split_labels(about: dict[str, Any]) -> str:
    """Whether choosing by the labels in a results file is label-free; a file that does not name its split is not."""
    return split_use([about.get("split") or "unknown"])


def list_use(path: Path) -> str:
    """Whether choosing by the labels in a list is label-free: one with the name of a bright split's list is."""
    bright = {list_name for list_name, _, dark in SPLITS.values() if not dark}
    return LABEL_FREE if path.name in bright else ORACLE


def write_about(path: Path, content: dict[str, Any]) -> None:
    """Write the JSON beside an output: its own hash and what it was made of."""
    whole = {"file": path.name, "sha256": sha256_file(path), "version": __version__, **content}
    with atomic_write(path.with_suffix(".json"), "w") as file:
        json.dump(whole, file, indent=1, allow_nan=False)
        file.write("\n")


def read_about(path: Path) -> dict[str, Any]:
    """The JSON beside an output; without one, or where it is of other bytes, only that it is not known label-free."""
    try:
        content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = {}
    if isinstance(content, dict) and content.get("sha256") == sha256_file(path):
        return content
    return {"file": path.name, "sha256": sha256_file(path), "labels": ORACLE}
