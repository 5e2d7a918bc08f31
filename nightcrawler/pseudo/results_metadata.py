"""Results files of experiments: their names, their metadata, and the label use of outputs.

Label use says whether labels of dark clips were used to choose a checkpoint or a threshold
(`oracle`) or not (`label-free`). Metadata of an output is a JSON file beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nightcrawler import __version__
from nightcrawler.data.splits import MOTIONS, SPLITS, get_split
from nightcrawler.pseudo.ensemble import Joined, join
from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.predictions import Predictions, read_results
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, sha256_file

LABEL_FREE = "label-free"
ORACLE = "oracle"
# Dark clips whose labels an oracle calibrates with.
ORACLE_SPLIT = "arid"
# Forms of results files, which end their names: arrays, and the published pickle.
RESULTS_FORMAT = "npz"
PUBLISHED_FORMAT = "pkl"
_ENDING = r"x\d+x\d+x{views}x{crops}(xg[\d.]+(-[\d.]+)*)?\.{suffix}"
_PAIR = re.compile(r"x\d+x\d+x(\d+)x(\d+)(xg[\d.-]+)?\.(npz|pkl)$")
# Fields of a results file's metadata that are copied into metadata of outputs.
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
# Fields that all results of one join share, where they have them: numbered videos of other data
# have the same names.
_SHARED = ("split", "list_sha256", "videos_sha256")


def results_name(
    split: str,
    num_frames: int,
    crop_size: int,
    pair: tuple[int, int],
    gammas: Sequence[float] = (),
    form: str = RESULTS_FORMAT,
) -> str:
    """Return the name of a results file: `{split}x{T}x{size}x{V}x{C}.npz`.

    Args:
        split: name of the split.
        num_frames: T, frames of a clip.
        crop_size: side of a crop in pixels.
        pair: views V and crops C of each video.
        gammas: gammas whose predictions were averaged, for the ending `xg{a}-{b}`.
        form: `npz`, or `pkl` for the published form.

    Example:
        >>> results_name("test", 32, 224, (3, 3), [0.25, 0.5])
        'testx32x224x3x3xg0.25-0.5.npz'
    """
    views, crops = pair
    ending = ""
    if gammas:
        ending = "xg" + "-".join(f"{gamma:g}" for gamma in gammas)
    return f"{split}x{num_frames}x{crop_size}x{views}x{crops}{ending}.{form}"


def pair_of_results(path: Path) -> tuple[int, int] | None:
    """Return views and crops in the name of a results file, None where it has none.

    Example:
        >>> pair_of_results(Path("val_darkx8x48x3x1.npz"))
        (3, 1)
    """
    found = _PAIR.search(path.name)
    return (int(found[1]), int(found[2])) if found else None


def _results_pattern(split: str, pair: tuple[int, int]) -> re.Pattern[str]:
    """Return the pattern of `results_name` for any clip length, crop size and gammas."""
    views, crops = pair
    ending = _ENDING.format(views=views, crops=crops, suffix="(npz|pkl)")
    return re.compile(re.escape(split) + ending)


def holds_published_form(folder: Path) -> bool:
    """Return whether all results files of an experiment's folder are of the published form.

    Args:
        folder: of the experiment, which need not exist.
    """
    forms = set()
    for form in (RESULTS_FORMAT, PUBLISHED_FORMAT):
        pattern = re.compile(".+" + _ENDING.format(views=r"\d+", crops=r"\d+", suffix=form))
        if any(pattern.fullmatch(path.name) for path in folder.glob(f"*.{form}")):
            forms.add(form)
    return forms == {PUBLISHED_FORMAT}


def results_file(folder: Path, split: str, pair: tuple[int, int]) -> Path:
    """Find the results file of a split in an experiment's folder.

    Args:
        folder: of the experiment.
        split: name of the split.
        pair: views and crops of each video.

    Raises:
        UserError: if there is none, or several.
    """
    views, crops = pair
    pattern = _results_pattern(split, pair)
    found = sorted(path for path in folder.glob("*.*") if pattern.fullmatch(path.name))
    if not found:
        settings = (
            f"TEST.DATA_SELECT {split} TEST.NUM_ENSEMBLE_VIEWS {views} "
            f"TEST.NUM_SPATIAL_CROPS {crops}"
        )
        # Not every folder has a script: rounds may be numbered beyond those of the project.
        advice = "no such experiment: train it first, or name results with --predictions"
        if (folder / "test.sh").is_file():
            advice = f"run {folder}/test.sh {settings}"
        elif folder.is_dir():
            advice = f"test the experiment with {settings}"
        raise UserError(
            f"{folder}: no results of split '{split}' with {views} views and {crops} crops; "
            f"{advice}"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"{folder}: several results: {names}; keep only one of them in this folder")
    return found[0]


def load_joined(
    paths: Sequence[Path],
    ensemble: EnsembleSpec,
    classes: Sequence[str],
    names: Sequence[str] | None = None,
) -> tuple[Joined, list[dict[str, Any]]]:
    """Read the models' results and join them by video name.

    Args:
        paths: a results file for each model.
        ensemble: the models.
        classes: class names that the predictions must have, in order (empty for any).
        names: names of rows, for files in the old form.

    Returns:
        The joined predictions, and the metadata of each file.

    Raises:
        UserError: if a file is bad or files do not fit together.
    """
    # The same file twice would count one model twice, and nothing else would notice.
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(f"{', '.join(map(str, paths))}: one file is named twice")
    models = [read_results(path, names) for path in paths]
    _check_same_data(paths, models)
    # The order of rows is that of the first file.
    joined = join(models, [str(path) for path in paths], ensemble.scores)
    unnamed = joined.class_names == list(map(str, range(len(joined.class_names))))
    # Files in the old form do not name their classes: the recipe does.
    if classes and len(classes) == len(joined.class_names) and unnamed:
        joined = replace(joined, class_names=list(classes))
    if classes and joined.class_names != list(classes):
        raise UserError(
            f"{paths[0]}: classes {', '.join(joined.class_names)}, but the recipe has "
            f"{', '.join(classes)}"
        )
    metadata = [results_metadata(path, model) for path, model in zip(paths, models, strict=True)]
    return joined, metadata


def _check_same_data(paths: Sequence[Path], models: Sequence[Predictions]) -> None:
    """Refuse to join results of other videos, which may have the same names.

    Raises:
        UserError: if two files have another split, list or content of videos.
    """
    for key in _SHARED:
        first: tuple[Path, str] | None = None
        for path, model in zip(paths, models, strict=True):
            value = str(model.meta.get(key) or "")
            # Models of skeletons are tested on pose files, whose content is not that of videos.
            if not value or (key == "videos_sha256" and "pose_sources" in model.meta):
                continue
            if first is None:
                first = path, value
            elif value != first[1]:
                raise UserError(
                    f"{path}: {key} is {value[:16]}, that of {first[0]} is {first[1][:16]}: these "
                    "are results of other videos, test all models on the same split and data"
                )


def results_metadata(path: Path, predictions: Predictions) -> dict[str, Any]:
    """Return the metadata of a results file, with its hash.

    Args:
        path: the file.
        predictions: its content.
    """
    known = {key: predictions.meta[key] for key in META_KEYS if key in predictions.meta}
    return {"file": f"{path.parent.name}/{path.name}", "sha256": sha256_file(path), **known}


def label_use(inputs: Sequence[dict[str, Any]], *others: str) -> str:
    """Return the label use of an output: `label-free` only if every part of it is.

    Args:
        inputs: metadata of the inputs. One without `labels` counts as `oracle`.
        others: label use of everything else that went into the output.
    """
    uses = [*(metadata.get("labels") for metadata in inputs), *others]
    return LABEL_FREE if all(use == LABEL_FREE for use in uses) else ORACLE


def split_use(names: Iterable[str], prefix: str | Path = "") -> str:
    """Return the label use of learning from, or choosing by, the labels of splits.

    Args:
        names: names of the splits.
        prefix: data folder, for splits that are only a list file.
    """
    dark = any(get_split(name, prefix).has_dark_labels for name in names)
    return ORACLE if dark else LABEL_FREE


def results_label_use(metadata: dict[str, Any]) -> str:
    """Return the label use of choosing by the labels in a results file.

    Args:
        metadata: of the file. Without a split it counts as `oracle`.
    """
    return split_use([metadata.get("split") or "unknown"])


def list_use(path: Path) -> str:
    """Return the label use of choosing by a list: `label-free` for a bright split's list name.

    Args:
        path: the list.
    """
    # By name only: a list that a user made may hold labels of dark clips.
    bright = {list_name for list_name, _, dark in {**SPLITS, **MOTIONS}.values() if not dark}
    return LABEL_FREE if path.name in bright else ORACLE


def write_metadata(path: Path, content: dict[str, Any]) -> None:
    """Write the metadata of an output, atomically.

    Args:
        path: the output. The JSON file has the same name with `.json`.
        content: label use, settings and inputs of the output. Hash and version are added.
    """
    whole = {"file": path.name, "sha256": sha256_file(path), "version": __version__, **content}
    with atomic_write(path.with_suffix(".json"), "w") as file:
        # NaN and infinity are no JSON: other readers would refuse the file.
        json.dump(whole, file, indent=1, allow_nan=False)
        file.write("\n")


def refuse_other_description(path: Path) -> None:
    """Refuse an output whose description would replace another JSON file.

    Args:
        path: the output, beside which the description is.

    Raises:
        UserError: if a file of that name is no description of an output.
    """
    beside = path.with_suffix(".json")
    if not beside.is_file() or not beside.stat().st_size:
        return
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or "sha256" not in content:
        raise UserError(
            f"{beside}: would be replaced by the description of {path.name}: move it, or name "
            "another output"
        )


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of an output.

    Args:
        path: the output.

    Returns:
        The content of its JSON file. Without one, or if it describes other bytes, the name and
        hash of the output and the label use `oracle`, which also stand for those that it lacks.

    Raises:
        UserError: if a field of the JSON file has a value that no output is described by.
    """
    beside = path.with_suffix(".json")
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = {}
    about = {"file": path.name, "sha256": sha256_file(path), "labels": ORACLE}
    # After an edit by hand the old description no longer holds.
    if not isinstance(content, dict) or content.get("sha256") != about["sha256"]:
        return about
    content = {**about, **content}
    for name, absent, fits, expected in _FIELDS:
        if not fits(content.get(name, absent)):
            raise UserError(
                f"{beside}: {name}: {str(content.get(name))[:60]!r}, expected {expected}; make "
                f"{path.name} again, or remove this file: its labels then count as {ORACLE}"
            )
    return content


def names_without_prediction(path: Path, metadata: Mapping[str, Any]) -> set[str]:
    """Return the names of a submission's videos that no model had an opinion on.

    Args:
        path: the submission.
        metadata: of it, as `read_metadata` returns it.

    Raises:
        UserError: if only their number is given, as beside pseudo-labels.
    """
    names = metadata.get("without_prediction", [])
    if not isinstance(names, list):
        raise UserError(
            f"{path.with_suffix('.json')}: without_prediction: {names}, expected names of videos, "
            "as beside a submission"
        )
    return set(names)


def _is_list(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, list) and all(isinstance(one, kind) for one in value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


# Fields of a description that are read: name, what it stands for where absent, whether a value
# fits, and what is expected. Pseudo-labels count the videos that a submission names.
_FIELDS: tuple[tuple[str, Any, Callable[[Any], bool], str], ...] = (
    ("file", None, lambda value: isinstance(value, str), "the name of the file"),
    (
        "labels",
        None,
        lambda value: value in (LABEL_FREE, ORACLE),
        f"{LABEL_FREE} or {ORACLE}",
    ),
    ("classes", [], lambda value: _is_list(value, str), "a list of names"),
    ("inputs", [], lambda value: _is_list(value, dict), "a list of results"),
    (
        "without_prediction",
        [],
        lambda value: _is_count(value) or _is_list(value, str),
        "a number, or names of videos",
    ),
    ("videos", 0, _is_count, "a number of videos"),
    ("method", "", lambda value: isinstance(value, str), "a text"),
    ("thresholds", [], lambda value: _is_list(value, (int, float)), "a list of numbers"),
)
