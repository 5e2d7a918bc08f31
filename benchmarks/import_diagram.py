"""Draw which package imports which, from the code, into docs/architecture.md.

`python -m benchmarks.import_diagram` writes the page; with `--check` it fails where the page is out
of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/architecture.md"
PACKAGE = "nightcrawler"
BEGIN = "<!-- imports: begin -->"
END = "<!-- imports: end -->"


def package_imports() -> dict[str, set[str]]:
    """Return each sub-package with the sub-packages that its modules import."""
    # Without a cache, which would lie in the working tree.
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in sorted(graph.modules):
        package = _package(module)
        if not package:
            continue
        targets = found.setdefault(package, set())
        for imported in graph.find_modules_directly_imported_by(module):
            target = _package(imported)
            if target and target != package:
                targets.add(target)
    return found


def _package(module: str) -> str:
    parts = module.split(".")
    if len(parts) < 2 or parts[1].startswith("__"):
        return ""
    return parts[1]


def essential(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports without those that a chain of others implies, so that arrows stay few."""
    return {
        package: {target for target in targets if not _implied(imports, package, target)}
        for package, targets in imports.items()
    }


def _implied(imports: dict[str, set[str]], package: str, target: str) -> bool:
    waiting = [other for other in imports[package] if other != target]
    seen: set[str] = set()
    while waiting:
        other = waiting.pop()
        if other == target:
            return True
        if other not in seen:
            seen.add(other)
            waiting += imports.get(other, ())
    return False


def diagram() -> Iterator[str]:
    """Yield the lines of the picture and of the table below it."""
    imports = package_imports()
    yield "```mermaid"
    yield "flowchart TD"
    for package, targets in essential(imports).items():
        for target in sorted(targets):
            yield f"    {package} --> {target}"
    yield "```"
    yield ""
    yield "| package | imports |"
    yield "|---|---|"
    for package, targets in imports.items():
        yield f"| {package} | {', '.join(sorted(targets)) or 'nothing of ours'} |"


def page() -> str:
    """Return the page with the picture of today's code."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n" + "\n".join(diagram()) + f"\n{END}{after}"


def main(argv: Sequence[str]) -> int:
    """Write the page, or check it; return 1 if it is out of date."""
    if list(argv) == ["--check"]:
        if page() == PAGE.read_text(encoding="utf-8"):
            return 0
        print(f"{PAGE}: out of date: run python -m benchmarks.import_diagram", file=sys.stderr)
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
