"""Compare the locked packages with known advisories: `python -m benchmarks.advisories PIP_AUDIT`.

A report and no gate: an advisory may concern nothing that is used here, and the database cannot be
reached from everywhere. Each case is said in a line, and the exit code is 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.lock import LOCK
from nightcrawler.utils.command_line import make_parser, run

TIMEOUT_SEC = 300
UNKNOWN = "advisories were not compared"


def describe(report: Mapping[str, Any]) -> list[str]:
    """Return what a report of pip-audit says, in lines.

    Args:
        report: JSON of `pip-audit --format json`.
    """
    lines = []
    num_skipped = 0
    packages = report["dependencies"]
    for package in packages:
        num_skipped += "skip_reason" in package
        for advisory in package.get("vulns", []):
            fixed = ", ".join(advisory["fix_versions"]) or "no release"
            where = f"{package['name']} {package['version']}"
            lines.append(f"advisory: {where}: {advisory['id']}, fixed in {fixed}")
    num_compared = len(packages) - num_skipped
    lines.append(f"{num_compared} of {len(packages)} packages were compared with advisories")
    if not num_compared:
        lines[-1] = f"{UNKNOWN}: the database knows none of the packages here, or is out of reach"
    return lines


def ask(pip_audit: str) -> list[str]:
    """Run pip-audit on the lock file, and return what it says in lines.

    Args:
        pip_audit: path of the program.
    """
    options = ["--requirement", str(LOCK), "--no-deps", "--disable-pip", "--format", "json"]
    try:
        done = subprocess.run(
            [pip_audit, *options, "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SEC,
            check=False,
        )
        return describe(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return [f"{UNKNOWN}: no answer within {TIMEOUT_SEC} s"]
    except OSError as error:
        return [f"{UNKNOWN}: {pip_audit}: {error.strerror}"]
    except (ValueError, KeyError, TypeError):
        said = done.stderr.strip().splitlines() or ["no answer"]
        return [f"{UNKNOWN}: {said[-1][:200]}"]


def main(argv: Sequence[str]) -> int:
    """Print the advisories of the locked packages, or why there are none to print."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("pip_audit", metavar="PIP_AUDIT", help="path of the program")
    for line in ask(parser.parse_args(argv).pip_audit):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
