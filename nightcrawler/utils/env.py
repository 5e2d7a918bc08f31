"""Seeds and versions."""

from __future__ import annotations

import os
import platform
import random
from importlib import metadata
from typing import Any

import numpy as np
import torch

# Name of the distribution, which pip installs. The package that it holds is imported as `nightcrawler`.
DISTRIBUTION = "nightcrawler-video"
LIBRARIES = ("torch", "torchvision", "av", "numpy", "timm", "fvcore")


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch, and ask for deterministic cuDNN kernels."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def derived_seed(*parts: int) -> int:
    """A 63-bit seed that is a pure function of whole numbers (numpy's SeedSequence mixes them)."""
    state = np.random.SeedSequence([part % 2**63 for part in parts]).generate_state(2, np.uint64)
    return int(state[0] >> np.uint64(1))


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


def machine() -> dict[str, Any]:
    """Processor count, threads and GPUs, as a run folder should record them."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }
