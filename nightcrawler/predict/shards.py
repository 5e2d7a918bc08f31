"""Predict very large sets in shards: one part file per video, written whole, then merged.

The content of a part depends on the video and the models only, so any process of any run may write
it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.ensemble import run_hash
from nightcrawler.predict.video_result import (
    VideoResult,
    csv_rows,
    from_plain,
    timeline_rows,
    to_plain,
    to_predictions,
)
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, file_state, write_spreadsheet_rows

# Names in an output folder. They are part of its format: shards of older versions are merged, too.
PARTS = "parts"
METADATA = "run.json"
METADATA_KEYS = {"models", "class_names", "labels", "mixture"}
SHOWN_NAMES = 5
# End of the status of files that could not be opened: a disk may have been away for a while.
PASSING = "(open)"
# Variables of launchers with the index of a process.
ARRAY = "SLURM_ARRAY_TASK_ID"
# Index and number of processes; those of Kubernetes' Indexed Job lack the number, which the
# manifest sets.
INDEXED = {
    "RANK": "WORLD_SIZE",
    "JOB_COMPLETION_INDEX": "JOB_COMPLETIONS",
    "AWS_BATCH_JOB_ARRAY_INDEX": "AWS_BATCH_JOB_ARRAY_SIZE",
}
LAUNCHERS = (*INDEXED, ARRAY, "SLURM_PROCID")
# Set by `srun` alone: in a batch script, SLURM_NTASKS counts processes that do not run yet.
STEP_TASKS = "SLURM_STEP_NUM_TASKS"


def parse_shard(text: str, env: Mapping[str, str]) -> tuple[int, int]:
    """Return the index of a shard, from 0, and the number of shards.

    Args:
        text: `i/N`, or `env` to take both from a launcher's variables.
        env: environment variables.

    Raises:
        UserError: if the text is neither, or no launcher's variables are set.
    """
    if text == "env":
        return _shard_of_launcher(env)
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not int(match[1]) < int(match[2]):
        raise UserError(f"shard '{text}': expected i/N with i from 0 to N-1, or env")
    return int(match[1]), int(match[2])


def _shard_of_launcher(env: Mapping[str, str]) -> tuple[int, int]:
    """Return the index and the number of shards of a launcher's process.

    The processes that `srun` starts in each element of an array have a shard each.
    """
    # RANK alone may be anybody's.
    found = [name for name in INDEXED if name in env and (name != "RANK" or "WORLD_SIZE" in env)]
    if found:
        shard = (_number(env, found[0]), _number(env, INDEXED[found[0]]))
    elif ARRAY in env:
        shard = _shard_of_array(env)
    elif "SLURM_PROCID" in env and "SLURM_NTASKS" in env:
        shard = (_number(env, "SLURM_PROCID"), _number(env, "SLURM_NTASKS"))
    else:
        names = ", ".join(LAUNCHERS)
        raise UserError(f"shard env: none of {names} is set; start it with a launcher, or give i/N")
    index, count = shard
    if index >= count:
        raise UserError(
            f"shard env: the launcher's variables say process {index} of {count}, counted from 0: "
            "give i/N"
        )
    return shard


def _shard_of_array(env: Mapping[str, str]) -> tuple[int, int]:
    first = _number(env, "SLURM_ARRAY_TASK_MIN", "0")
    count = _number(env, "SLURM_ARRAY_TASK_COUNT")
    last = _number(env, "SLURM_ARRAY_TASK_MAX", str(first + count - 1))
    index = _number(env, ARRAY) - first
    # With a step or gaps, the numbers of the elements are no indices of shards.
    if not 0 <= index < count or last - first + 1 != count:
        raise UserError(
            f"shard env: {ARRAY} is {env[ARRAY]} of {count} elements from {first} to {last}: "
            "--array must count by one, such as --array 0-6"
        )
    if _number(env, "SLURM_NTASKS", "1") == 1:
        return index, count
    if STEP_TASKS not in env:
        raise UserError(
            f"shard env: SLURM_NTASKS is {env['SLURM_NTASKS']} in each element of an array: start "
            "it with srun, or submit with --ntasks 1"
        )
    tasks = _number(env, STEP_TASKS)
    return index * tasks + _number(env, "SLURM_PROCID"), count * tasks


def _number(env: Mapping[str, str], name: str, default: str = "") -> int:
    """Return a variable of a launcher as a number.

    Raises:
        UserError: if it is missing, or not a whole number.
    """
    text = env.get(name, default)
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UserError(
            f"shard env: {name} is {text!r}: expected a whole number; give i/N instead of env"
        )
    return int(text)


def part_path(out: Path, name: str) -> Path:
    """Return the part file of a video: named by a hash of its name, in one of 256 folders."""
    # Names may be paths or hold any character. Millions of files in one folder are slow to list.
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return out / PARTS / digest[:2] / f"{digest[2:34]}.json"


def open_run(out: Path, about: dict[str, Any]) -> str:
    """Start or join a run in a folder, and return the run's hash.

    Args:
        out: folder of the run.
        about: plain values that identify models and settings.

    Raises:
        UserError: if the folder holds parts of other models or settings.
    """
    path = out / METADATA
    key = run_hash(about)
    if path.exists():
        other = run_hash(_read(path))
        if other != key:
            raise UserError(
                f"{path} is of other models or settings ({other}, now {key}): "
                "give another output folder"
            )
        return key
    # Shards that start together write the same content, so the last one to rename does no harm.
    with atomic_write(path, "w") as file:
        json.dump(about, file, indent=1, sort_keys=True)
        file.write("\n")
    return key


def missing(out: Path, key: str, items: Sequence[VideoItem]) -> list[VideoItem]:
    """Return the videos without a part of this run, or whose part may not be final.

    A file that was replaced since, or that could not be opened, is due again.
    """
    return [item for item in items if not _has_part(out, key, item)]


def write_part(
    out: Path, key: str, result: VideoResult, state: tuple[int, int] | None = None
) -> None:
    """Write the part file of a video.

    Args:
        out: folder of the run.
        key: hash of the run.
        result: result of the video.
        state: `file_state` of the video before it was read.
    """
    content: dict[str, Any] = {"run": key, "row": to_plain(result)}
    if state is not None or not result.ok:
        content["file"] = state
    with atomic_write(part_path(out, result.name), "w") as file:
        json.dump(content, file, allow_nan=False)


def _has_part(out: Path, key: str, item: VideoItem) -> bool:
    result = _read_part(out, key, item.name, ())
    if result is None or result.status.endswith(PASSING):
        return False
    content = _read(part_path(out, item.name))
    now = file_state(item.path)
    # Parts of earlier versions hold no state, and an answer outlives the file that it is of.
    if "file" not in content or (now is None and result.ok):
        return True
    return content["file"] == (now and list(now))


def _read_part(out: Path, key: str, name: str, class_names: Sequence[str]) -> VideoResult | None:
    """Return the part of a video, None where it is missing, damaged, or of another run."""
    try:
        content = _read(part_path(out, name))
        result = from_plain(content["row"], class_names)
    except (FileNotFoundError, UserError, KeyError, TypeError):
        return None
    if content.get("run") != key or result.name != name:
        return None
    return result


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object, so it was not written by a prediction")
    return content


def read_about(out: Path) -> dict[str, Any]:
    """Return the run metadata of a folder of parts.

    Args:
        out: folder of the run.

    Raises:
        UserError: if the folder holds no run.
    """
    path = out / METADATA
    if not path.is_file():
        raise UserError(f"{out}: no {METADATA} in it: no shard has run with this output folder")
    content = _read(path)
    lacking = METADATA_KEYS - content.keys()
    if lacking:
        raise UserError(f"{path}: has no {min(lacking)}, so it was not written by a prediction")
    return content


def merge(
    out: Path, items: Sequence[VideoItem], top: int, reject: bool = False
) -> tuple[list[VideoResult], list[Path]]:
    """Check that a run is complete, and write one result of all parts.

    Writes `predictions.csv`, `predictions.npz` and, for windows, `timeline.csv`.

    Args:
        out: folder of the run.
        items: every video of the list.
        top: number of classes per row of the CSV file.
        reject: name no class of an answer that is not sure.

    Returns:
        the results in the order of the list, and the written files.

    Raises:
        UserError: if a video has no part, or a part is of a video outside the list.
    """
    about = read_about(out)
    key = run_hash(about)
    class_names = tuple(about["class_names"])
    results = []
    lacking = []
    for item in items:
        result = _read_part(out, key, item.name, class_names)
        if result is None:
            lacking.append(item.name)
        else:
            results.append(result)
    if lacking:
        shown = ", ".join(f"'{name}'" for name in lacking[:SHOWN_NAMES])
        raise UserError(
            f"{out}: {len(lacking)} of {len(items)} videos have no prediction: {shown}; "
            "run the shards again to add them"
        )
    # Parts of other videos mean that the list changed after the shards had started.
    extra = set(_part_files(out)) - {part_path(out, item.name) for item in items}
    if extra:
        raise UserError(
            f"{out}: {len(extra)} parts are of videos that the list does not have, "
            f"such as {min(extra)}"
        )
    files = [out / "predictions.csv", out / "predictions.npz"]
    write_spreadsheet_rows(files[0], csv_rows(results, top, reject))
    to_predictions(results, len(class_names), {**about, "run": key}).save(files[1])
    if any(result.segments for result in results):
        files.append(out / "timeline.csv")
        write_spreadsheet_rows(files[2], timeline_rows(results, reject))
    return results, files


def _part_files(out: Path) -> Iterator[Path]:
    """Yield the part files of a folder, without temporary files of killed processes."""
    for folder, _, names in os.walk(out / PARTS):
        for name in names:
            if name.endswith(".json") and not name.startswith("."):
                yield Path(folder, name)
