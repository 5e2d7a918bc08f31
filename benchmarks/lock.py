"""Write the lock file: every package that tests and documents need, with version and hash.

`python -m benchmarks.lock` holds the versions of the environment that it runs in, which the tests
have passed with: install the newest, test, then lock. pip resolves, for this platform and this
Python alone; nothing is installed.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from nightcrawler.utils.command_line import make_parser, run
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements-lock.txt"
PROJECT = "nightcrawler-video"
# torch first, as in the Makefile.
REQUIREMENTS = ("torch", "torchvision", ".[dev,docs]")
HEADER = """\
# Packages that `make install-locked` installs, made by `python -m benchmarks.lock` (INSTALL.md).
# {platform}. Others install by the floors of pyproject.toml.
"""


def this_platform() -> str:
    """Return the platform and Python that a lock made here is for."""
    return f"{platform.system()} {platform.machine()}, {sys.implementation.name} " + ".".join(
        map(str, sys.version_info[:2])
    )


def lock_lines(report: Mapping[str, Any]) -> list[str]:
    """Return `name==version --hash=sha256:...` of each package of pip's report, sorted.

    Args:
        report: JSON of `pip install --report`.

    Raises:
        UserError: if a package has no hash, such as one that is installed from a folder.
    """
    lines = []
    for entry in report["install"]:
        name, version = entry["metadata"]["name"], entry["metadata"]["version"]
        if name == PROJECT:
            continue
        sha256 = entry["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if not sha256:
            raise UserError(f"{name} {version}: its file has no hash: install a released version")
        lines.append(f"{name.lower()}=={version} --hash=sha256:{sha256}")
    return sorted(lines)


def installed_versions() -> list[str]:
    """Return `name==version` of each package of this environment, without the project."""
    found = {one.metadata["Name"]: one.version for one in distributions()}
    return sorted(f"{name}=={version}" for name, version in found.items() if name != PROJECT)


def resolve(folder: Path) -> dict[str, Any]:
    """Return pip's report of what it would install, with the versions of this environment.

    Args:
        folder: for files in between.

    Raises:
        UserError: with pip's last words, if it finds no solution.
    """
    versions, report = folder / "versions.txt", folder / "report.json"
    versions.write_text("\n".join(installed_versions()), encoding="utf-8")
    options = ["--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
    command = [sys.executable, "-m", "pip", "install", *options, "-c", str(versions)]
    done = subprocess.run(
        [*command, *REQUIREMENTS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"pip: {done.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(report.read_text(encoding="utf-8")))


def main(argv: Sequence[str]) -> int:
    """Resolve and write the lock file, or say whether this platform is the one that it is for."""
    parser = make_parser(__doc__ or "")
    parser.add_argument(
        "--fits", action="store_true", help="exit with 0 if the file is for this platform, else 1"
    )
    if parser.parse_args(argv).fits:
        lines = LOCK.read_text(encoding="utf-8").splitlines()
        return 0 if f"# {this_platform()}." in lines[1] else 1
    with tempfile.TemporaryDirectory() as folder:
        lines = lock_lines(resolve(Path(folder)))
    with atomic_write(LOCK, "w") as file:
        file.write(HEADER.format(platform=this_platform()) + "\n".join(lines) + "\n")
    print(f"{LOCK}: {len(lines)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
