"""Launch several processes as `torchrun` does and exit with the code of the first that failed.

`python -m nightcrawler.engine.launch` takes torchrun's arguments. Each process reports its own
error on standard error. The launcher prints no traceback, only one line if a process was killed
and could not report anything. It forwards signals to the processes, which save and exit.
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
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.run import parse_args, run

from nightcrawler.utils.distributed import EXIT_CODE_FILE, LAUNCHER_PID, LOOPBACK

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
# Option of torchrun for processes of one machine.
STANDALONE = "--standalone"
LOOPBACK_DEVICE = "lo"
# Exit code of an error that a line names.
EXIT_ERROR = 2
# Seconds that processes get to save after a signal, before they are killed.
SAVING_SEC = 300


def main(argv: Sequence[str]) -> int:
    """Launch the processes and wait for them.

    Args:
        argv: arguments of torchrun.

    Returns:
        The exit code of the first process that failed, or the one that all agreed on.
    """
    # torch would log, at length, the failure that the process itself has reported already.
    logging.disable(logging.ERROR)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SAVING_SEC))
    # Without this, restarted ranks reuse the previous run's TCPStore and try to reach dead peers.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    os.environ[LAUNCHER_PID] = str(os.getpid())
    with tempfile.TemporaryDirectory() as folder:
        arguments = _on_one_machine(argv, Path(folder)) if STANDALONE in argv else argv
        agreed = Path(folder) / "code"
        os.environ[EXIT_CODE_FILE] = str(agreed)
        code = 0
        try:
            run(parse_args(["--signals-to-handle", ",".join(_handled_signals()), *arguments]))
        except ChildFailedError as error:
            return _exit_code_of(error)
        except RendezvousError as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            sys.stderr.write(f"error: the processes cannot find one another ({reason})\n")
            return EXIT_ERROR
        except SignalException as error:
            # As a shell reports a process that a signal ended.
            code = 128 + error.sigval
        # Ranks that stopped on request write their code here: exiting with it themselves would
        # be a failure to torchrun, which would restart them.
        if agreed.exists():
            return int(agreed.read_text())
        return code


def _on_one_machine(argv: Sequence[str], folder: Path) -> list[str]:
    """Return arguments with which the processes of one machine meet without its network.

    The machine's name may have no address, and other machines have no business here: the launcher
    keeps its records in a file, and the processes talk through the loopback device.

    Args:
        argv: arguments of torchrun with `--standalone`.
        folder: folder of the file.
    """
    if Path("/sys/class/net", LOOPBACK_DEVICE).exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK_DEVICE)
    place = [argument for argument in argv if argument != STANDALONE]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", str(folder / "rendezvous")]
    return [*meeting, "--rdzv-conf", "store_type=file", "--local-addr", LOOPBACK, *place]


def _handled_signals() -> list[str]:
    """Return the signals that are passed on to the processes.

    `nohup` ignores SIGHUP: to handle it would end the run when the terminal is closed.
    """
    ignored = signal.SIG_IGN
    return [name for name in SIGNALS if signal.getsignal(signal.Signals[name]) != ignored]


def _exit_code_of(error: ChildFailedError) -> int:
    """Return the first failure's exit code and print a line if the process was killed."""
    rank, failure = error.get_first_failure()
    if failure.exitcode > 0:
        return failure.exitcode
    name = signal.Signals(-failure.exitcode).name
    hint = ""
    if name == "SIGKILL":
        hint = " (out of memory?)"
    sys.stderr.write(
        f"error: the process of rank {rank} was killed by {name}{hint}; the others were ended\n"
    )
    return 128 - failure.exitcode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
