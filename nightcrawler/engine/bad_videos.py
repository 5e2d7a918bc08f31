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
    """Bad videos of each stream, by name.

    Args:
        path: the CSV file (`stream,video,cause,where`); rank r > 0 writes `bad.rank{r}.csv`.
        max_fraction: share of a stream's videos above which the run ends.
    """

    def __init__(self, path: Path, max_fraction: float) -> None:
        number = distributed.rank()
        self.path = path if number == 0 else path.with_suffix(f".rank{number}.csv")
        self.max_fraction = max_fraction
        self.found: dict[tuple[str, str], BadVideo] = {}

    def add(self, stream: str, num_items: int, videos: Sequence[BadVideo]) -> None:
        """Count in the bad videos of one batch.

        Raises:
            UserError: if more than `max_fraction` of the stream's videos are bad (one is always tolerated).
        """
        new = {(stream, video.name): video for video in videos if (stream, video.name) not in self.found}
        if not new:
            return
        self.found.update(new)
        for video in new.values():
            logger.warning("stream '%s': '%s' cannot be used: %s (%s)", stream, video.name, video.cause, video.where)
        rows = [(name, video.name, video.cause, video.where) for (name, _), video in self.found.items()]
        write_csv_rows(self.path, [("stream", "video", "cause", "where"), *rows])
        count = sum(name == stream for name, _ in self.found)
        if count > max(self.max_fraction * num_items, 1):
            raise UserError(
                f"stream '{stream}': {count} of {num_items} videos cannot be used, more than DATA.MAX_BAD_FRACTION "
                f"{self.max_fraction:g}; the list is in {self.path}"
            )
