"""Versions that numbers depend on: of Python, of libraries, and of this project's own arithmetic.

Standard library only: the pipeline compares them without importing torch.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata

# Name that pip installs. The package in it is imported as `nightcrawler`.
DISTRIBUTION = "nightcrawler-video"
# Raised by each change after which the same inputs and seed give other numbers. 1: version 0.1,
# which did not record it. 2: clips that come again are augmented anew, steps count what they hold.
# 3: exact colours. 4: `kl_published` casts the teacher to float16, dense windows are float32.
# 5: cameras are fitted from starts that half of the clips judge. 6: weights of labelled classes
# leave label smoothing out, controls of early stops and ramps have equal steps. 7: the fit of
# cameras needs no slopes. 8: it finds the camera's smoothing, too.
NUMERICS = 8
NUMERICS_NAME = "numerics"
# Libraries that numbers depend on: run folders and results files record their versions.
LIBRARIES = ("torch", "torchvision", "av", "numpy", "timm", "fvcore")
# Those whose other versions are known to give other numbers: training, and decoding of frames.
COMPARED = ("torch", "av", NUMERICS_NAME)


def library_versions() -> dict[str, str]:
    """Return the versions of Python, of the libraries that numbers depend on, and `NUMERICS`.

    Example:
        >>> library_versions()["numerics"] == str(NUMERICS)
        True
    """
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    versions[NUMERICS_NAME] = str(NUMERICS)
    return versions


def compare_versions(before: Mapping[str, str]) -> str:
    """Return the differences from recorded versions to those of now, for people.

    Args:
        before: Record of `library_versions`. Without `numerics` it is of version 0.1.

    Returns:
        Such as `torch 2.4.0 (now 2.9.1), numerics 1 (now 2)`, empty if there is no difference.
    """
    now = library_versions()
    differences = []
    for name in COMPARED:
        recorded = before.get(name)
        if recorded is None and name == NUMERICS_NAME:
            recorded = "1"
        if recorded is not None and recorded != now[name]:
            differences.append(f"{name} {recorded} (now {now[name]})")
    return ", ".join(differences)
