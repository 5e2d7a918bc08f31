"""Recordings that clips were cut from, and a validation split that keeps each on one side."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import plain_name, read_csv_rows

# The number of a clip at the end of its name: `_3`, `-c02`, `.12`, or a time range `_10-20`.
CLIP_NUMBER = re.compile(r"(?:[_ .]\d+-\d+|[-_. ]+[A-Za-z]{0,4}\d+)$")

# Recording of a clip, from its name `class/.../video`.
RecordingOf = Callable[[str], str]


def recording_by_name(name: str) -> str:
    """Return the recording of a clip by its name: the name without its last number.

    Clips named by a number alone are of the recording that their folder below the class stands for.
    Directly below the class, each is a recording of its own.

    Args:
        name: `class/.../video` with a suffix.

    Example:
        >>> recording_by_name("Run/garden_02_c3.mp4"), recording_by_name("Run/garden/3.mp4")
        ('Run/garden_02', 'Run/garden')
    """
    folder, _, last = name.rpartition("/")
    stem = last.rpartition(".")[0] or last
    if stem.isdigit():
        return folder if "/" in folder else name
    return f"{folder}/{CLIP_NUMBER.sub('', stem)}"


def recording_by_clip(name: str) -> str:
    """Return the clip itself: every clip is a recording of its own."""
    return name


def recording_rule(text: str) -> RecordingOf:
    """Return the function that tells the recording of a clip.

    Args:
        text: `name`, `clip`, or the path of a table (see `read_recordings`).

    Raises:
        UserError: if it names a table that cannot be read.
    """
    rules: dict[str, RecordingOf] = {"name": recording_by_name, "clip": recording_by_clip}
    return rules[text] if text in rules else read_recordings(Path(text).expanduser())


def read_recordings(path: Path) -> RecordingOf:
    """Read the recording of each clip from a table.

    Args:
        path: `.csv` file of rows `path,recording` (optional header), paths as below the folder of
            class folders.

    Raises:
        UserError: if the table cannot be read, or later for a clip that it does not name.
    """
    recordings: dict[str, str] = {}
    for number, fields in read_csv_rows(path, ("path", "recording")):
        if len(fields) != 2 or not fields[1]:
            raise UserError(f"{path}: row {number}: expected path,recording, got {fields}")
        recordings[plain_name(fields[0])] = fields[1]

    def recording(name: str) -> str:
        found = recordings.get(plain_name(name))
        if found is None:
            raise UserError(f"{path}: has no recording of '{name}'; add a row for every clip")
        return found

    return recording


def choose_validation(recordings: Sequence[str], fraction: float, rng_key: list[int]) -> set[int]:
    """Draw the places of a class's validation clips, whole recordings only.

    About `fraction` of the clips are drawn: at least one recording of two, never all, and never
    more than half of the clips where that share is smaller.

    Args:
        recordings: recording of each clip of the class.
        fraction: share of the clips, in [0, 1).
        rng_key: seeds of the draw.

    Returns:
        Places of the chosen clips, empty where they cannot be kept apart.
    """
    places: dict[str, list[int]] = {}
    for place, recording in enumerate(recordings):
        places.setdefault(recording, []).append(place)
    if fraction == 0 or len(places) < 2:
        return set()
    groups = list(places.values())
    count = len(recordings)
    wanted = min(max(round(count * fraction), 1), count - 1)
    order = np.random.default_rng(rng_key).permutation(len(groups)).tolist()
    chosen: set[int] = set()
    for index in order:
        if len(chosen) + len(groups[index]) <= wanted:
            chosen.update(groups[index])
    if chosen:
        return chosen
    # Every recording is longer than the share: the shortest, unless it is most of the class.
    shortest = min((groups[index] for index in order), key=len)
    return set(shortest) if 2 * len(shortest) <= count else set()
