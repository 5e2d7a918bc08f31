"""Check this installation and machine: versions, devices, a clip, a model, disk space, data."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nightcrawler.cli.environment import advice
from nightcrawler.utils.command_line import make_parser
from nightcrawler.utils.project import project_root

if TYPE_CHECKING:
    from nightcrawler.utils.doctor import Check

EXAMPLES = """\
  {command}
  {command} --data data
  {command} --json > doctor.json

exit codes: 0 every check passed, 1 a check failed (its line says what to do)"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options of the doctor."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="also check the lists of this data folder"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(argv)


def show(check: Check) -> None:
    """Print the outcome of one check, with advice where it failed."""
    mark = "ok   " if check.ok else "WRONG"
    print(f"{mark}  {check.name}: {check.found}", flush=True)
    if not check.ok:
        print(f"       -> {check.advice}", flush=True)


def show_incomplete(error: ImportError, as_json: bool) -> None:
    """Print that the package itself cannot be imported."""
    found = f"{error}: the installation is not complete"
    if as_json:
        print(json.dumps({"ok": False, "error": found}))
    else:
        print(f"WRONG  {found}")
    print(f"       -> {advice(project_root())}", file=sys.stderr)


def main(argv: Sequence[str]) -> int:
    """Run all checks, and print each as soon as it is done."""
    arguments = parse(argv)
    # The checks import every library, and a missing one is a finding, not a failure.
    try:
        from nightcrawler.predict.doctor_checks import all_checks
    except ImportError as error:
        show_incomplete(error, arguments.json)
        return 1
    checks = []
    for check in all_checks(project_root(), arguments.data):
        checks.append(check)
        # One at a time: the slow checks (a clip, a model) would leave the screen empty.
        if not arguments.json:
            show(check)
    num_wrong = sum(not check.ok for check in checks)
    if arguments.json:
        content = {"ok": num_wrong == 0, "checks": [vars(check) for check in checks]}
        print(json.dumps(content, indent=1))
    elif num_wrong:
        print(f"{num_wrong} of {len(checks)} checks are wrong")
    else:
        print("all is well")
    return 1 if num_wrong else 0
