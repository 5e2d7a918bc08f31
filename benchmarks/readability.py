"""Measure how the package reads, and fail where a figure is worse than its limit.

`python -m benchmarks.readability [FOLDER]` is part of `make lint`. The limits are those of the
best-read code bases of the field. A figure is a thermometer: a page that reads well is the aim.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_COLUMNS = 100
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
# First words of a docstring that is a clause instead of a sentence with a verb.
CLAUSE = re.compile(r"(What|Whether|How|Which|Where|As|Of|Those|The same)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Limit:
    """Largest (or smallest) value of a figure: a count per `per` units of `of`."""

    figure: str
    per: int
    of: str
    value: float
    smallest: bool = False


LIMITS = (
    Limit("clauses", 100, "docstrings", 1.0),
    Limit("'what'", 100, "docstrings", 3.0),
    Limit("semicolons", 100, "docstrings", 10.0),
    Limit("comprehensions", 1000, "lines", 20.0),
    Limit("nested comprehensions", 1000, "lines", 0.7),
    Limit("conditional expressions", 1000, "lines", 11.0),
    Limit("tuple assignments", 1000, "lines", 4.5),
    Limit("comment lines", 100, "lines", 3.0, smallest=True),
    Limit("wide lines", 1000, "lines", 0.0),
    Limit("long functions", 1000, "functions", 0.0),
    Limit("long files", 1000, "files", 0.0),
)


def count_file(text: str, counts: Counter[str]) -> None:
    """Add the figures of one source file to the counts."""
    lines = text.splitlines()
    counts["files"] += 1
    counts["lines"] += len(lines)
    counts["long files"] += len(lines) > MAX_FILE_LINES
    for line in lines:
        counts["comment lines"] += line.lstrip().startswith("#")
        counts["wide lines"] += len(line) > MAX_COLUMNS
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, Function)):
            _count_docstring(ast.get_docstring(node), counts)
        if isinstance(node, Function):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            counts["functions"] += 1
            counts["long functions"] += length > MAX_FUNCTION_LINES
        elif isinstance(node, COMPREHENSIONS):
            counts["comprehensions"] += 1
            counts["nested comprehensions"] += _is_nested(node)
        elif isinstance(node, ast.IfExp):
            counts["conditional expressions"] += 1
        elif isinstance(node, ast.Assign):
            target = node.targets[0]
            pair = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
            counts["tuple assignments"] += pair


def _count_docstring(text: str | None, counts: Counter[str]) -> None:
    if not text:
        return
    counts["docstrings"] += 1
    counts["clauses"] += bool(CLAUSE.match(text))
    counts["'what'"] += len(re.findall(r"\bwhat\b", text.lower()))
    counts["semicolons"] += text.count(";")


def _is_nested(node: ast.expr) -> bool:
    inner = [child for child in ast.walk(node) if isinstance(child, COMPREHENSIONS)]
    generators: list[ast.comprehension] = getattr(node, "generators", [])
    return len(inner) > 1 or len(generators) > 1


def figures(counts: Counter[str]) -> Iterator[tuple[Limit, float, bool]]:
    """Yield each limit, its figure, and whether the limit is kept."""
    for limit in LIMITS:
        value = limit.per * counts[limit.figure] / max(counts[limit.of], 1)
        kept = value >= limit.value if limit.smallest else value <= limit.value
        yield limit, value, kept


def main(argv: Sequence[str]) -> int:
    """Print every figure beside its limit; return 1 if one is worse."""
    folder = Path(argv[0] if argv else "nightcrawler")
    counts: Counter[str] = Counter()
    for path in sorted(folder.rglob("*.py")):
        count_file(path.read_text(encoding="utf-8"), counts)
    if not counts["files"]:
        print(f"error: {folder}: no Python files", file=sys.stderr)
        return 2
    num_missed = 0
    for limit, value, kept in figures(counts):
        num_missed += not kept
        sign = ">=" if limit.smallest else "<="
        name = f"{limit.figure} per {limit.per} {limit.of}"
        print(f"{'ok  ' if kept else 'MISS'} {value:8.1f} {sign} {limit.value:<5g} {name}")
    return int(num_missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
