"""What people and reports see of a chain: lines, a bar, the table of the plan, `pipeline.json`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nightcrawler import __version__
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.progress import format_seconds
from nightcrawler.workflow.task import Task, dependencies
from nightcrawler.workflow.task_state import FileHashes, TaskState, judge

TaskRow = tuple[Task, str, str, TaskState | None]


class Screen:
    """A line for each link that starts or ends, and on a terminal a bar below them.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._started = time.monotonic()
        self._bar: Any = None

    def open(self, total: int) -> None:
        """Begin, with a number of links."""
        self._started = time.monotonic()
        if not self._quiet and sys.stderr.isatty():
            self._bar = tqdm(
                total=total, bar_format="{bar:30} {n_fmt}/{total_fmt} links, {elapsed}{postfix}"
            )

    def line(
        self,
        name: str,
        status: str,
        reason: str,
        done: int,
        total: int,
        left: float | None,
        seconds: float = 0.0,
    ) -> None:
        """What became of a link; a link that stood all along has none on a terminal, where the bar tells."""
        if self._bar is not None and (status, reason) == ("done", "stands"):
            return
        took = f" in {format_seconds(seconds)}" if seconds else ""
        gone = format_seconds(time.monotonic() - self._started)
        rest = "" if left is None else f", about {format_seconds(left)} left"
        why = f": {reason}" if reason and reason != "stands" else ""
        word = "stands" if reason == "stands" else status
        self.note(
            f"[{done:>3}/{total}] {gone} {word:<8}{name}{took}{rest if status == 'done' else ''}{why}"
        )

    def note(self, text: str) -> None:
        """A line of its own."""
        if self._quiet:
            return
        if self._bar is None:
            print(text, flush=True)
        else:
            self._bar.write(text)

    def tick(self, done: int, total: int, left: float | None) -> None:
        """Keep the bar's clock going."""
        if self._bar is not None:
            self._bar.n = done
            self._bar.set_postfix_str(
                "" if left is None else f"about {format_seconds(left)} left", refresh=False
            )
            self._bar.update(0)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def plan_rows(
    links: Sequence[Task], hashes: FileHashes, again: set[str], selected: set[str]
) -> list[TaskRow]:
    """What would be done, as rows of `done`, `to do` and `left out`, each with the reason.

    A link that reads what is to be made anew may stand after all, if the same bytes come out.
    """
    after, rows = dependencies(links), []
    open_links: set[str] = set()
    for link in links:
        verdict = judge(link, hashes)
        waits = [name for name in after[link.name] if name in open_links]
        if link.name not in selected:
            status, reason = "left out", "" if verdict.stands else verdict.reason
        elif link.name in again:
            status, reason = "to do", "to be done again"
        elif waits:
            status, reason = (
                "to do",
                f"if {waits[0]} changes" if verdict.stands else f"after {waits[0]}",
            )
        else:
            status, reason = ("done", "") if verdict.stands else ("to do", verdict.reason)
        if status == "to do":
            open_links.add(link.name)
        rows.append((link, status, reason, verdict.stamp))
    return rows


def table(rows: Iterable[TaskRow], labels: str) -> Iterable[str]:
    """Lines of a table, a link a line, and a last line that counts and says whether choices are label-free."""
    rows = list(rows)
    width = max(len(link.name) for link, *_ in rows) + 2
    for link, status, reason, stamp in rows:
        took = format_seconds(stamp.seconds) if status == "done" and stamp is not None else ""
        yield f"{link.name:<{width}}{status:<9}{took:>8}  {reason}".rstrip()
    open_links = sum(status == "to do" for _, status, _, _ in rows)
    done = sum(status == "done" for _, status, _, _ in rows)
    yield f"{len(rows)} links, {done} done, {open_links} to do, choices are {labels}"


def write_state(path: Path, root: Path, about: Mapping[str, Any], rows: Iterable[TaskRow]) -> None:
    """Write `pipeline.json`: what the chain is, and of every link what it is about, its files, status and seconds."""
    links = [
        {
            "name": link.name,
            "kind": link.kind,
            **link.about,
            "folder": shown(link.folder, root),
            "inputs": {name: shown(path, root) for name, path in link.inputs.items()},
            "outputs": [shown(path, root) for path in link.outputs],
            "status": status,
            "reason": reason,
            "seconds": stamp.seconds if stamp is not None else None,
            "exit_code": stamp.exit_code
            if stamp is not None and status in ("done", "failed")
            else None,
            "command": list(link.command),
        }
        for link, status, reason, stamp in rows
    ]
    with atomic_write(path, "w") as file:
        json.dump({"version": __version__, **about, "links": links}, file, indent=1)
        file.write("\n")


def shown(path: Path, root: Path) -> str:
    """A path as text: relative to the project's root where it is in it."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
