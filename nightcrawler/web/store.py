"""Clips that the page's server keeps: their results, and their videos while there is room."""

from __future__ import annotations

import secrets
import shutil
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.predict.video_result import VideoResult
from nightcrawler.web.answers import Answer, Failure
from nightcrawler.web.inference import ANNOTATED
from nightcrawler.web.previews import AFTER, BEFORE, WHOLE_AFTER, WHOLE_BEFORE

VIDEOS = (BEFORE, AFTER, WHOLE_BEFORE, WHOLE_AFTER, ANNOTATED)
# Results are small: they stay after the videos of their clips are gone.
MAX_RESULTS = 1000


@dataclass(frozen=True)
class KeptClip:
    """A clip and its outcome.

    Attributes:
        name: of the clip in addresses.
        result: row in tables.
        content: answer or failure that the page shows.
        upload: the clip itself, None where it could not be used.
        is_damaged: only a part of it was read.
    """

    name: str
    result: VideoResult
    content: Answer | Failure
    upload: Path | None = None
    is_damaged: bool = False


class ClipStore:
    """Folders of clips, under names that cannot be guessed.

    Args:
        root: folder that holds them.
        max_bytes: room for their videos. The clip used last is kept whatever its size.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root = root
        self.max_bytes = max_bytes
        # The clip used last is the last one.
        self._clips: OrderedDict[str, KeptClip] = OrderedDict()

    def create(self) -> tuple[str, Path]:
        """Create a folder, and return its name and path."""
        name = secrets.token_urlsafe(16)
        folder = self.root / name
        folder.mkdir()
        return name, folder

    def keep(self, clip: KeptClip) -> None:
        """Keep a clip from `create`, and make room for it."""
        self._clips[clip.name] = clip
        while len(self._clips) > MAX_RESULTS:
            self.remove(next(iter(self._clips)))
        self.trim()

    def trim(self) -> None:
        """Remove videos of the clips that were used longest ago until the others have room."""
        sizes = {name: _num_bytes(self.root / name) for name in self._clips}
        total = sum(sizes.values())
        for name in list(self._clips)[:-1]:
            if total <= self.max_bytes:
                return
            shutil.rmtree(self.root / name, ignore_errors=True)
            total -= sizes[name]

    def remove(self, name: str) -> bool:
        """Remove all that is kept of a clip, and return whether it was known."""
        known = self._clips.pop(name, None) is not None
        if known:
            self.discard(name)
        return known

    def discard(self, name: str) -> None:
        """Remove the folder of a name from `create`."""
        shutil.rmtree(self.root / name, ignore_errors=True)

    def find(self, name: str) -> KeptClip | None:
        """Return a clip, None where it is unknown. It counts as used."""
        clip = self._clips.get(name)
        if clip is not None:
            self._clips.move_to_end(name)
        return clip

    def video(self, name: str, part: str) -> Path | None:
        """Return a video of a clip, None where it does not exist."""
        # Both names come from the address: only known ones become a path.
        if part not in VIDEOS or self.find(name) is None:
            return None
        path = self.root / name / part
        return path if path.is_file() else None


def _num_bytes(folder: Path) -> int:
    """Return the size of the files in a folder, 0 where it is gone."""
    total = 0
    for path in folder.glob("*"):
        if path.is_file():
            total += path.stat().st_size
    return total
