"""The ledger of videos that could not be used: counted, named, written to `bad.csv`, and too many end the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nightcrawler.data.dataset import BadVideo
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import write_csv_rows
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)


class BadVideoLedger:
    """Bad videos of each stream, by name, over all ranks.

    Args:
        path: the CSV file (`stream,video,cause,where`).
        max_fraction: share of a stream's videos above which the run ends.
    """

    def __init__(self, path: Path, max_fraction: float) -> None:
        self.path, self.max_fraction = path, max_fraction
        self.found: dict[tuple[str, str], BadVideo] = {}
        self._new: dict[tuple[str, str], BadVideo] = {}
        self._sizes: dict[str, int] = {}

    @property
    def num_new(self) -> int:
        """Bad videos that this rank has met since the last `settle`."""
        return len(self._new)

    def add(self, stream: str, num_items: int, videos: Sequence[BadVideo]) -> None:
        """Note the bad videos of one batch of a stream of `num_items` videos."""
        self._sizes[stream] = num_items
        for video in videos:
            if (stream, video.name) not in self.found:
                self._new[(stream, video.name)] = video

    def settle(self) -> None:
        """Share what is new between ranks, write it down, and count; every rank calls this.

        Raises:
            UserError: if more than `max_fraction` of a stream's videos are bad (one is always tolerated).
        """
        new = {
            key: video
            for part in distributed.gather_objects(self._new)
            for key, video in part.items()
        }
        self._new = {}
        if not new:
            return
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
        for stream, num_items in self._sizes.items():
            count = sum(name == stream for name, _ in self.found)
            if count > max(self.max_fraction * num_items, 1):
                raise UserError(
                    f"stream '{stream}': {count} of {num_items} videos cannot be used, more than "
                    f"DATA.MAX_BAD_FRACTION {self.max_fraction:g}; the list is in {self.path}"
                )

    def _write(self) -> None:
        """The list, whole each time: one that finds no room is made up for by the next."""
        rows = [
            (stream, name, video.cause, video.where) for (stream, name), video in self.found.items()
        ]
        try:
            write_csv_rows(self.path, [("stream", "video", "cause", "where"), *rows])
        except OSError as error:
            logger.warning("%s: not written (%s)", self.path, error.strerror or error)
