"""A line per case file with its largest error against its tolerance; exit code 1 on a failure.

A file fails that is no case of a known kind, that has a field which its kind does not use, or of
which nothing was compared.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.golden.case import Check, find_kind
from tests.golden.fields import Refusal, read_case
from tests.golden.kinds import KINDS

# Of the names of unknown fields; a file of another format may have hundreds.
NAMES_SHOWN = 3


def check_file(path: Path) -> list[Check]:
    """All checks of one file.

    Raises:
        Refusal: if the file cannot be judged as a whole.
    """
    case = read_case(path)
    kind = find_kind(KINDS, case)
    if kind is None:
        known = ", ".join(kind.name for kind in KINDS)
        raise Refusal(f"unknown kind of case with {_listed(list(case))}; known kinds: {known}")
    checks = list(kind.run(case))
    unread = list(case.unread())
    if unread:
        raise Refusal(f"{kind.name}: unknown {_listed(unread)}, which nothing was compared with")
    if not checks:
        raise Refusal(f"{kind.name}: nothing was compared")
    return checks


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN]) or "none"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"field{'s' if len(names) > 1 else ''} {shown}{more}"


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
            told = "" if isinstance(error, (Refusal, KeyError)) else f"{type(error).__name__}: "
            print(f"FAIL {path.name}: {told}{' '.join(str(error).split())}", flush=True)
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
