"""Start several processes as `torchrun` does, and end with the exit code of the one that failed first.

`python -m nightcrawler.engine.launch` takes torchrun's arguments. What a process has to say is on its own standard
error; the launcher adds no traceback of its own, only a line where a process was killed and could not say anything.
Signals are passed on to the processes, which save and end.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from nightcrawler.utils.distributed import EXIT_CODE_FILE

SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2"
# Seconds that processes have for saving after a signal; then they are killed.
SAVING_SEC = 300


def main(argv: Sequence[str]) -> int:
    """Launch; returns the exit code of the first process that failed, or the one that all processes agreed on."""
    logging.disable(
        logging.ERROR
    )  # of this process: torch's account of what the processes say themselves
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SAVING_SEC))
    # Else ranks that are started again meet in the store of those before, and call at addresses of the dead.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    with tempfile.TemporaryDirectory() as folder:
        agreed = Path(folder) / "code"
        os.environ[EXIT_CODE_FILE] = str(agreed)
        try:
            run(parse_args(["--signals-to-handle", SIGNALS, *argv]))
        except ChildFailedError as error:
            return _failed(error)
        except SignalException as error:
            return int(agreed.read_text()) if agreed.exists() else 128 + error.sigval
        return int(agreed.read_text()) if agreed.exists() else 0


def _failed(error: ChildFailedError) -> int:
    rank, failure = error.get_first_failure()
    if failure.exitcode > 0:
        return failure.exitcode
    name = signal.Signals(-failure.exitcode).name
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    print(
        f"error: the process of rank {rank} was killed by {name}{hint}; the others were ended",
        file=sys.stderr,
    )
    return 128 - failure.exitcode  # as a shell would say it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
