"""Places of a file where frames are missing, or cannot be trusted."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

# Places of damage that are looked for one by one. Each costs a search for the next sound place.
MOST_FAULTS = 256


@dataclass(frozen=True)
class Fault:
    """Damage of a file.

    Attributes:
        cause: the damage, in a few words.
        start: first byte whose frames cannot be trusted.
        end: first byte behind them. No frame is concerned where it equals `start`.
    """

    cause: str
    start: int
    end: int


@dataclass(frozen=True)
class Gaps:
    """Places where something is missing, or where another recording begins, each rising.

    Attributes:
        stream: places at which the packets of the video do not go on: those of a transport stream
            that are not counted on, and beginnings of damage.
        tables: places at which those of the table of programs are not counted on.
        damaged: first bytes of damage, and first bytes behind it.
        is_cut: whether a transport stream ends within a packet, so that its last picture is cut.
    """

    stream: tuple[int, ...] = ()
    tables: tuple[int, ...] = ()
    damaged: tuple[tuple[int, int], ...] = ()
    is_cut: bool = False

    def is_damaged(self, place: int) -> bool:
        """Return whether a byte lies within damage."""
        index = bisect_right(self.damaged, place, key=lambda span: span[0]) - 1
        return index >= 0 and place < self.damaged[index][1]

    def within(self, start: int, end: int) -> Gaps:
        """Return those of a section of the file, counted from its first byte."""
        damaged = []
        for first, behind in self.damaged:
            if start <= first < end:
                damaged.append((first - start, behind - start))
        stream = tuple(place - start for place in self.stream if start <= place < end)
        tables = tuple(place - start for place in self.tables if start <= place < end)
        return Gaps(stream, tables, tuple(damaged), self.is_cut)


NO_GAPS = Gaps()


def between(places: tuple[int, ...], start: int, end: int | None) -> tuple[int, ...]:
    """Return the places behind `start` up to `end`, or to the end of the file."""
    if end is None:
        return places[bisect_right(places, start) :]
    return places[bisect_right(places, start) : bisect_right(places, end)]
