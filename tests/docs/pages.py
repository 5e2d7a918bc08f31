"""Documents taken apart: fenced blocks with the marks before them, inline code, links, headings.

A mark is an HTML comment before a block, which readers of the page do not see:

- `<!-- file: PATH -->`: the block is that file; it is written there.
- `<!-- edit: PATH -->`: a diff of that file, hunks apart by `@@`; it is applied.
- `<!-- given: PATH ... -->`: what the block finds when it runs, made from tiny data.
- `<!-- run with: ARGUMENTS -->`: runs with these after each command, such as `--overlay tiny.yaml`.
- `<!-- needs: WHAT -->`: cannot run in a test; it is checked against options, keys and files that there are.

A python or bash block without `needs` is run as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.paths import ROOT

TOP_PAGES = ("README", "DATASET", "INSTALL", "MODEL_ZOO", "CONTRIBUTING", "SECURITY", "AGENTS")
PAGES = [
    *(ROOT / f"{name}.md" for name in TOP_PAGES),
    *sorted((ROOT / "docs").glob("*.md")),
]
MARKS = ("file", "edit", "given", "run with", "needs")
NEEDS = ("gpu", "data", "weights", "slurm", "network", "time", "ray", "snakemake", "containers")
# Lines around a part of a page that a command writes from the code.
GENERATED = ("<!-- imports: begin -->", "<!-- imports: end -->")
MARK = re.compile(r"<!-- ([a-z ]+): (.+) -->")
FENCE = re.compile(r"```(\w*)")
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass
class Block:
    """A fenced block: its language, text, line in the page, and the marks before it."""

    language: str
    line: int
    lines: list[str] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


@dataclass
class Page:
    """A document: its blocks, and its prose as (line, text)."""

    path: Path
    blocks: list[Block]
    prose: list[tuple[int, str]]

    def inline(self) -> Iterator[tuple[int, str]]:
        """Line and text of inline code."""
        for line, text in self.prose:
            yield from ((line, found) for found in INLINE.findall(text))

    def links(self) -> Iterator[tuple[int, str]]:
        """Line and target of links and pictures that lead to no other site."""
        for line, text in self.prose:
            targets = LINK.findall(INLINE.sub("", text))
            yield from ((line, target) for target in targets if "://" not in target)

    def anchors(self) -> set[str]:
        """Names that links to headings have."""
        headings = [text.lstrip("#").strip() for _, text in self.prose if text.startswith("#")]
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def take_apart(path: Path, text: str) -> Page:
    """A page.

    Raises:
        ValueError: naming the line of a mark that is none, or stands before no block, or of a block without an end.
    """
    page, marks, block = Page(path, [], []), dict[str, str](), None
    for number, line in enumerate(text.splitlines(), start=1):
        if block is not None:
            block = block if not line.startswith("```") else None
            if block is not None:
                block.lines.append(line)
        elif fence := FENCE.match(line):
            block = Block(fence[1], number, marks=marks)
            page.blocks.append(block)
            marks = {}
        elif line in GENERATED:
            continue
        elif line.startswith("<!--"):
            mark = MARK.fullmatch(line)
            if (
                not mark
                or mark[1] not in MARKS
                or (mark[1] == "needs" and mark[2].split()[0] not in NEEDS)
            ):
                raise ValueError(
                    f"{path.name}:{number}: {line}: expected one of {MARKS}, needs one of {NEEDS}"
                )
            marks[mark[1]] = mark[2]
        else:
            if marks and line:
                raise ValueError(f"{path.name}:{number}: marks {marks} stand before no block")
            page.prose.append((number, line))
    if block is not None:
        raise ValueError(f"{path.name}:{block.line}: the block has no end")
    return page


def read_page(path: Path) -> Page:
    """A page of the project."""
    return take_apart(path, path.read_text(encoding="utf-8"))


def commands(text: str) -> list[str]:
    """The commands of a bash block: continued lines joined, comments left out."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]
