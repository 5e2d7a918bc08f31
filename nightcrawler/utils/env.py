"""Random seeds and a description of the machine."""

from __future__ import annotations

import os
import platform
import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch, and ask for deterministic cuDNN kernels."""
    random.seed(seed)
    # numpy takes 32 bits only.
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    # The benchmark would pick kernels by their speed, which differs from run to run.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def derived_seed(*parts: int) -> int:
    """Return a 63-bit seed that is a pure function of whole numbers (mixed by SeedSequence)."""
    state = np.random.SeedSequence([part % 2**63 for part in parts]).generate_state(2, np.uint64)
    return int(state[0] >> np.uint64(1))


def machine() -> dict[str, Any]:
    """Return system, processor count, threads and GPUs, for the record of a run."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }
