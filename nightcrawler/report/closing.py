"""Last lines of a report in a terminal: accuracy step by step, and commands that use the models."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nightcrawler.report.run_files import use_commands
from nightcrawler.report.run_folder import RunFolder

# A clip that comes with a checkout, and what stands for a clip of the user elsewhere.
EXAMPLE_CLIP = "docs/night.mp4"
YOUR_CLIP = "night.mp4"


def closing_lines(figures: Mapping[str, Any], run: RunFolder) -> Iterator[str]:
    """Yield how accuracy went, and commands that use the models of the run.

    Args:
        figures: of the run.
        run: of the chain.
    """
    story = figures["story"]
    if story:
        yield (
            f"top-1 in % on {story['stamp']['clips']} clips of {story['split']}, chance "
            f"{figures['chance']:.1f}:"
        )
        steps = []
        for step in story["steps"]:
            percent = step["accuracy"]["percent"]
            steps.append(f"{step['name']} {'?' if percent is None else f'{percent:.1f}'}")
        yield f"  {' -> '.join(steps)}"
    clip = EXAMPLE_CLIP if Path(EXAMPLE_CLIP).is_file() else YOUR_CLIP
    commands = use_commands(run, _shown, str(_program()), clip)
    if commands:
        yield "use the models of this run:"
        for command in commands:
            yield f"  {command.line}"
            if command.note:
                yield f"    ({command.note})"


def _program() -> Path:
    """Return how the command is started: by its name if that is found, else by its path."""
    here = Path(sys.executable).with_name("nightcrawler")
    if shutil.which("nightcrawler") or not here.exists():
        return Path("nightcrawler")
    return _shown(here)


def _shown(path: Path) -> Path:
    """Return a path relative to the current folder if it is inside."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
