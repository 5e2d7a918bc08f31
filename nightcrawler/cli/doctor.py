"""Say whether this installation and machine are fit: versions, devices, a clip, a model, space, data."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.utils.cli import make_parser
from nightcrawler.utils.project import project_root

EXAMPLES = """\
  {command}
  {command} --data data
  {command} --json > doctor.json

exit codes: 0 all is well, 1 something is wrong (its line says what to do)"""


def parse(argv: Sequence[str]) -> Any:
    """The command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="also check the lists of this data folder"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Check all, a line each as it is found."""
    arguments = parse(argv)
    try:
        from nightcrawler.predict.health import all_checks
    except ImportError as error:
        found = f"{error}: the installation is not whole"
        print(json.dumps({"ok": False, "error": found}) if arguments.json else f"WRONG  {found}")
        print("       -> run: python -m pip install -e . (see INSTALL.md)", file=sys.stderr)
        return 1
    checks = []
    for check in all_checks(project_root(), arguments.data):
        checks.append(check)
        if not arguments.json:
            print(f"{'ok   ' if check.ok else 'WRONG'}  {check.name}: {check.found}", flush=True)
            if not check.ok:
                print(f"       -> {check.advice}", flush=True)
    ok = all(check.ok for check in checks)
    if arguments.json:
        print(json.dumps({"ok": ok, "checks": [vars(check) for check in checks]}, indent=1))
    else:
        print(
            "all is well"
            if ok
            else f"{sum(not check.ok for check in checks)} of {len(checks)} checks are wrong"
        )
    return 0 if ok else 1
