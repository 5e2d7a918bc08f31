"""List public weights that a config may name, and verify the files that are there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.utils.command_line import add_task, make_parser
from nightcrawler.utils.project import project_root

EXAMPLES = """\
  {command} list
  {command} verify"""


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    add_task(
        tasks,
        "list",
        "Print every known name, whether its file is there, and its source.",
        EXAMPLES,
    )
    add_task(
        tasks, "verify", "Read every file that is there and print its format and SHA-256.", EXAMPLES
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """List or verify weights, and return 1 if a file that is there cannot be used."""
    arguments = parse(argv)
    if arguments.task == "list":
        return list_weights(project_root())
    return verify_weights(project_root())


def list_weights(root: Path) -> int:
    """Print one block per name."""
    from nightcrawler.models.zoo import WEIGHTS_FOLDER, ZOO

    for name, entry in ZOO.items():
        path = root / WEIGHTS_FOLDER / entry.file
        state = "there" if path.is_file() else "not there"
        print(f"{name}\n  file    {path} ({state})\n  source  {entry.source}")
    return 0


def verify_weights(root: Path) -> int:
    """Read each file of a known name, and nothing but its tensors."""
    from nightcrawler.models.formats import read_weights
    from nightcrawler.models.zoo import WEIGHTS_FOLDER, ZOO, check_weights
    from nightcrawler.utils.errors import UserError

    found = {name: root / WEIGHTS_FOLDER / entry.file for name, entry in ZOO.items()}
    found = {name: path for name, path in found.items() if path.is_file()}
    # Every file is read, so that one damaged file does not hide another.
    num_bad = 0
    for name, path in found.items():
        try:
            file = read_weights(path)
            # A file that reads well may still be another one than the name promises.
            check_weights(name, file.sha256)
        except UserError as error:
            num_bad += 1
            print(f"WRONG  {name}: {error}", file=sys.stderr)
            continue
        print(f"ok     {name}: {file.format}, sha256 {file.sha256}")
    print(f"{len(found)} of {len(ZOO)} files are there, {num_bad} cannot be used")
    return 1 if num_bad else 0
