"""Number of GPUs, as torch counts them: `python -m nightcrawler.utils.gpus` prints it.

Standard library only: torch is imported by a process of its own, since that takes seconds and may
hold memory of a GPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# Signs of a GPU: without any, torch is not asked. WSL has `dxg`, AMD's driver `kfd`.
DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
PROGRAM = "nvidia-smi"
COUNT = "import torch; print(torch.cuda.device_count())"


def count_gpus() -> int:
    """Return the number of GPUs that a process started now would see.

    The list of `nvidia-smi` has lines for GPUs that `CUDA_VISIBLE_DEVICES` hides, for parts of
    GPUs, and for complaints of a broken driver.
    """
    if not any(Path(device).exists() for device in DEVICES) and shutil.which(PROGRAM) is None:
        return 0
    command = [sys.executable, "-c", COUNT]
    counted = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = counted.stdout.split()
    if counted.returncode or not lines or not lines[-1].isdecimal():
        return 0
    return int(lines[-1])


def visible_gpus() -> list[str]:
    """Return the GPUs that a process started now would see, as `CUDA_VISIBLE_DEVICES` names them.

    Example:
        >>> os.environ["CUDA_VISIBLE_DEVICES"] = "2,3"
        >>> visible_gpus()
        ['2', '3']
    """
    count = count_gpus()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return [str(number) for number in range(count)]
    # torch stops at the first name that is no GPU.
    return [name.strip() for name in chosen.split(",")][:count]


if __name__ == "__main__":
    sys.stdout.write(f"{count_gpus()}\n")
