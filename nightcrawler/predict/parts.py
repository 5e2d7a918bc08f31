"""Very large sets: any number of processes share a list; a file for each video, whole or absent, then one result.

What is in a video's file depends on the video and the models alone, so who made it, and in which run, does not matter.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.ensemble import run_hash
from nightcrawler.predict.rows import VideoResult, as_results, csv_rows, from_plain, timeline_rows
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, write_csv_rows

PARTS, ABOUT = "parts", "run.json"
SHOWN = 5
# Variables that say which of how many processes this is, and the number of the first.
LAUNCHERS = (
    ("RANK", "WORLD_SIZE", ""),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("SLURM_PROCID", "SLURM_NTASKS", ""),
)


def parse_shard(text: str, env: Mapping[str, str]) -> tuple[int, int]:
    """Which shard, from 0, of how many: `i/N`, or `env` for what a launcher says.

    Raises:
        UserError: if it is neither.
    """
    if text == "env":
        for index, count, first in LAUNCHERS:
            if index in env and count in env:
                return parse_shard(
                    f"{int(env[index]) - int(env.get(first, '0'))}/{env[count]}", env
                )
        raise UserError(
            f"--shard env: none of {', '.join(index for index, _, _ in LAUNCHERS)} is set"
        )
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not int(match[1]) < int(match[2]):
        raise UserError(f"--shard {text}: expected i/N with i from 0 to N-1, or env")
    return int(match[1]), int(match[2])


def part_path(out: Path, name: str) -> Path:
    """The file of a video: named by the hash of its name, in one of 256 folders."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return out / PARTS / digest[:2] / f"{digest[2:34]}.json"


def open_run(out: Path, about: dict[str, Any]) -> str:
    """Begin or join a run in a folder; returns its hash.

    Raises:
        UserError: if the folder holds the parts of another run.
    """
    path, key = out / ABOUT, run_hash(about)
    if path.exists():
        other = run_hash(_read(path))
        if other != key:
            raise UserError(
                f"{path} is of other models or settings ({other}, now {key}): give another --out"
            )
    else:
        with atomic_write(path, "w") as file:
            json.dump(about, file, indent=1, sort_keys=True)
            file.write("\n")
    return key


def missing(out: Path, key: str, items: Sequence[VideoItem]) -> list[VideoItem]:
    """The videos that have no part of this run yet."""
    return [item for item in items if _part(out, key, item.name) is None]


def write_part(out: Path, key: str, row: VideoResult) -> None:
    """Write a video's part."""
    path = part_path(out, row.name)
    with atomic_write(path, "w") as file:
        json.dump({"run": key, "row": asdict(row)}, file, allow_nan=False)


def _part(out: Path, key: str, name: str) -> VideoResult | None:
    """A video's part; `None` where there is none of this run."""
    try:
        content = _read(part_path(out, name))
        row = from_plain(content["row"])
    except (FileNotFoundError, UserError, KeyError, TypeError):
        return None
    return row if content.get("run") == key and row.name == name else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object: it was not written by this tool")
    return content


def read_about(out: Path) -> dict[str, Any]:
    """What made the parts of a folder.

    Raises:
        UserError: if it holds none.
    """
    if not (out / ABOUT).is_file():
        raise UserError(f"{out}: no {ABOUT} in it: no shard has run with this --out")
    content = _read(out / ABOUT)
    if not {"models", "class_names", "labels", "mixture"} <= content.keys():
        raise UserError(f"{out / ABOUT}: was not written by this tool")
    return content


def merge(out: Path, items: Sequence[VideoItem], top: int) -> tuple[list[VideoResult], list[Path]]:
    """Write `predictions.csv`, `predictions.pkl` and `timeline.csv` (where there is one) of a complete run.

    Args:
        out: folder of the parts.
        items: every video of the list.
        top: classes a row of the CSV file.

    Raises:
        UserError: if a video has no part, or a part is of no video of the list.
    """
    about = read_about(out)
    key = run_hash(about)
    found = [(item, _part(out, key, item.name)) for item in items]
    lacking = [item.name for item, row in found if row is None]
    if lacking:
        shown = ", ".join(f"'{name}'" for name in lacking[:SHOWN])
        raise UserError(
            f"{out}: {len(lacking)} of {len(items)} videos have no prediction: {shown}; run the shards on"
        )
    extra = set(_files(out)) - {part_path(out, item.name) for item in items}
    if extra:
        raise UserError(
            f"{out}: {len(extra)} parts are of videos that the list does not have, such as {min(extra)}"
        )
    rows = [row for _, row in found if row is not None]
    files = [out / "predictions.csv", out / "predictions.pkl"]
    write_csv_rows(files[0], csv_rows(rows, about["class_names"], top))
    as_results(rows, len(about["class_names"]), {**about, "run": key}).save(files[1])
    if any(row.segments for row in rows):
        files.append(out / "timeline.csv")
        write_csv_rows(files[2], timeline_rows(rows, about["class_names"]))
    return rows, files


def _files(out: Path) -> Iterator[Path]:
    """The parts in a folder, without what a killed process left half written."""
    for folder, _, names in os.walk(out / PARTS):
        yield from (
            Path(folder, name)
            for name in names
            if name.endswith(".json") and not name.startswith(".")
        )
