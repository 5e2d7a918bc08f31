"""List the files of a project, for `nightcrawler init` and for the build of the wheel (setup.py).

Standard library only: a build environment has nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# Everything that a user edits or runs; outputs of experiments beside these files are left out.
PATTERNS = (
    "configs/**/*.yaml",
    "configs/demo_weights/*",
    "exp_*/*/config.yaml",
    "exp_*/*/run.sh",
    "exp_*/*/test.sh",
    "tools/*.py",
    "tools/*.sh",
    "tools/slurm/*.sh",
    "gen_pseudo_tools/*.py",
    "test_ensemble_vote.py",
    "data/README.md",
)


def project_files(root: Path) -> Iterator[Path]:
    """Yield the files of a project, relative to its folder, in a fixed order."""
    for pattern in PATTERNS:
        for path in sorted(root.glob(pattern)):
            if path.is_file():
                yield path.relative_to(root)
