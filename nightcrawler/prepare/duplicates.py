"""Duplicates in an audit: files of equal content, and clips that two sources share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nightcrawler.prepare.measure import Measurement
from nightcrawler.prepare.sources import AuditSource

MAX_EXAMPLES = 5


@dataclass(frozen=True)
class Overlap:
    """Clips that two sources share.

    Attributes:
        first, second: names of the sources.
        same_file: number of files that both name.
        copies: number of further files with equal bytes under another name.
        examples: up to five pairs of paths, copies first.
    """

    first: str
    second: str
    same_file: int
    copies: int
    examples: tuple[tuple[str, str], ...]


def has_content(row: Measurement) -> bool:
    """Return whether a file was read and is not empty: empty files are equal, but no duplicates."""
    return bool(row.sha256) and row.size_bytes > 0


def group_duplicates(rows: Iterable[Measurement]) -> list[list[Measurement]]:
    """Group files of equal content, leaving out those without a duplicate."""
    groups: dict[str, list[Measurement]] = {}
    for row in rows:
        if has_content(row):
            groups.setdefault(row.sha256, []).append(row)
    return [group for group in groups.values() if len(group) > 1]


def find_leakage(sources: Sequence[AuditSource], rows: Iterable[Measurement]) -> list[Overlap]:
    """Return the overlap of each pair of sources that share clips.

    Args:
        sources: of the audit.
        rows: measurements of all their files.
    """
    by_path = {row.path: row for row in rows}
    overlaps = []
    for position, first in enumerate(sources):
        for second in sources[position + 1 :]:
            overlap = _overlap(first, second, by_path)
            if overlap.same_file or overlap.copies:
                overlaps.append(overlap)
    return overlaps


def _overlap(first: AuditSource, second: AuditSource, by_path: dict[str, Measurement]) -> Overlap:
    names = set(first.names)
    by_content = {}
    for name in sorted(names):
        if has_content(by_path[name]):
            by_content[by_path[name].sha256] = name
    same = []
    copies = []
    # A file that both name is no copy, even if a copy of it exists too.
    for name in second.names:
        row = by_path[name]
        if name in names:
            same.append((name, name))
        elif has_content(row) and row.sha256 in by_content:
            copies.append((by_content[row.sha256], name))
    examples = tuple((copies + same)[:MAX_EXAMPLES])
    return Overlap(first.name, second.name, len(same), len(copies), examples)
