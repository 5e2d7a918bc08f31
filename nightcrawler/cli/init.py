"""Lay out a project: experiment folders, configurations, recipes and scripts to edit and run.

Nothing that is there already is replaced.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nightcrawler.cli.layout import project_files
from nightcrawler.utils.command_line import make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.project import packaged_root

EXAMPLES = """\
  {command} my_project
  {command} ."""


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if it does not exist")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Copy the packaged project into a folder and print the next commands."""
    folder = parse(argv).folder
    for parent in (folder, *folder.parents):
        if parent.exists() and not parent.is_dir():
            raise UserError(f"{parent}: a file, expected a folder or a new name")
    source = packaged_root()
    files = list(project_files(source))
    # All conflicts are looked for first, so that a refusal leaves the folder as it was.
    for path in _conflicts(source, folder, files):
        raise UserError(f"{path}: exists and differs; nothing was written. Choose another FOLDER")
    missing = [path for path in files if not (folder / path).exists()]
    for path in missing:
        _copy(source / path, folder / path)
    there = len(files) - len(missing)
    print(f"{folder}: {len(files)} files, {len(missing)} written, {there} were there already")
    print("next:")
    print(f"  cd {folder}")
    print("  nightcrawler synthetic --out data/synthetic --jobs 2      # or your own: DATASET.md")
    print("  nightcrawler pipeline configs/pipeline/demo.yaml --dry-run")
    return 0


def _conflicts(source: Path, folder: Path, files: Sequence[Path]) -> Iterator[Path]:
    for path in files:
        target = folder / path
        # A dangling link does not exist, and yet must not be replaced.
        if target.is_symlink() or target.exists():
            same = target.is_file() and filecmp.cmp(source / path, target, shallow=False)
            if not same:
                yield target


def _copy(source: Path, target: Path) -> None:
    with atomic_write(target) as file:
        file.write(source.read_bytes())
    # Scripts stay executable.
    shutil.copymode(source, target)
