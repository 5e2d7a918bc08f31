"""A line per case file with its largest error against its tolerance; exit code 1 on a failure."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.golden.case import Check, find_kind
from tests.golden.kinds import KINDS


def check_file(path: Path) -> list[Check] | None:
    """All checks of one file; `None` when no kind recognises it."""
    case = json.loads(path.read_text(encoding="utf-8"))
    kind = find_kind(KINDS, path.stem, case)
    return None if kind is None else list(kind.run(case))


def describe(path: Path, checks: list[Check]) -> str:
    """One line: the check that came closest to (or furthest over) its tolerance."""
    worst = max(
        checks, key=lambda c: (not c.passed, c.error / c.tolerance if c.tolerance else c.error)
    )
    verdict = "ok  " if all(check.passed for check in checks) else "FAIL"
    failed = sum(not check.passed for check in checks)
    tail = f", {failed} failed" if failed else ""
    return (
        f"{verdict} {path.name}: {len(checks)} checks{tail}, "
        f"worst {worst.name} {worst.error:.2e} (tolerance {worst.tolerance:.0e})"
    )


def main(argv: list[str] | None = None) -> int:
    """Check every named file."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--all-checks", action="store_true", help="print every failed check")
    arguments = parser.parse_args(argv)
    failed = False
    for path in arguments.files:
        try:
            checks = check_file(path)
        except Exception as error:  # a case that cannot be run has failed, whatever the reason
            print(f"FAIL {path.name}: {type(error).__name__}: {error}")
            failed = True
            continue
        if not checks:
            print(f"FAIL {path.name}: no kind of case recognises this file")
            failed = True
            continue
        print(describe(path, checks), flush=True)
        if arguments.all_checks:
            for check in checks:
                if not check.passed:
                    print(f"     {check.name}: {check.error:.3e} > {check.tolerance:.0e}")
        failed = failed or not all(check.passed for check in checks)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
