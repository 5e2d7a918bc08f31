"""Ledger of videos that could not be used: counted, listed in `bad.csv`, limited in number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nightcrawler.data.dataset import BadVideo
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import write_spreadsheet_rows
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# Stream and name of a video: one file may be in two streams.
Key = tuple[str, str]


class BadVideoLedger:
    """Unusable videos of each stream, collected over all ranks.

    Args:
        path: the CSV file to write (`stream,video,cause,where`).
        max_fraction: part of a stream's videos, in [0, 1], above which the run ends.
        limit_name: name of `max_fraction` in messages, as the user sets it.
    """

    def __init__(self, path: Path, max_fraction: float, limit_name: str = "max_fraction") -> None:
        self.path = path
        self.max_fraction = max_fraction
        self.limit_name = limit_name
        self.found: dict[Key, BadVideo] = {}
        self._new: dict[Key, BadVideo] = {}
        self._sizes: dict[str, int] = {}

    @property
    def num_new(self) -> int:
        """Number of bad videos that this rank met since the last `sync`."""
        return len(self._new)

    def add(self, stream: str, num_items: int, videos: Sequence[BadVideo]) -> None:
        """Record the bad videos of one batch.

        Args:
            stream: name of the stream.
            num_items: number of videos of the whole stream.
            videos: the bad ones of the batch, each recorded once.
        """
        self._sizes[stream] = num_items
        for video in videos:
            if (stream, video.name) not in self.found:
                self._new[(stream, video.name)] = video

    def sync(self) -> None:
        """Exchange new entries between ranks, write the list and apply the limit.

        A collective: every rank calls it.

        Raises:
            UserError: if more than `max_fraction` of a stream's videos are bad (one is allowed
                at any limit). Videos without a person do not count.
        """
        new: dict[Key, BadVideo] = {}
        for part in distributed.gather_objects(self._new):
            new.update(part)
        self._new = {}
        if not new:
            return
        # Sorted, so that the list does not depend on the order in which ranks answer.
        self.found.update(sorted(new.items()))
        if distributed.is_main():
            for (stream, name), video in sorted(new.items()):
                logger.warning(
                    "stream '%s': '%s' cannot be used: %s (%s)",
                    stream,
                    name,
                    video.cause,
                    video.where,
                )
            self._write()
        self._apply_limit()

    def _apply_limit(self) -> None:
        for stream, num_items in self._sizes.items():
            count = sum(key[0] == stream and video.is_fault for key, video in self.found.items())
            if count > max(self.max_fraction * num_items, 1):
                raise UserError(
                    f"stream '{stream}': {count} of {num_items} videos cannot be used, more than "
                    f"{self.limit_name} {self.max_fraction:g}; the list is in {self.path}"
                )

    def _write(self) -> None:
        """Write the whole list, or warn if the disk is full: the next write has all rows."""
        rows = [("stream", "video", "cause", "where")]
        for (stream, name), video in self.found.items():
            rows.append((stream, name, video.cause, video.where))
        try:
            write_spreadsheet_rows(self.path, rows)
        except OSError as error:
            logger.warning("%s: not written (%s)", self.path, error.strerror or error)
