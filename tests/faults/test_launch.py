"""Runs through the launcher that are signalled or killed, as a scheduler or the kernel would do it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.engine.build import build_trainer
from tests import tiny
from tests.faults.ranks import LATEST, free_port, state_of
from tests.paths import ROOT
from tests.waiting import wait_until

# So long that nobody waits for it.
LONG = ("SOLVER.MAX_EPOCH", 5000, "TRAIN.EVAL_PERIOD", 5000)


@contextmanager
def launched(data: Path, out: Path, *overrides: Any, **env: str) -> Iterator[subprocess.Popen[str]]:
    """`tools/launch.sh train` on two ranks; what is left of it is killed in the end."""
    shown = tiny.arguments(data, out, *overrides)[2:]
    process = subprocess.Popen(
        ["bash", str(ROOT / "tools/launch.sh"), "train", str(ROOT / tiny.EXPERIMENT), *shown],
        env=tiny.environment(**{"NPROC": "2", "PYTHON": sys.executable, **env}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        for pid in [*ranks_of(process).values(), process.pid]:
            try_to_kill(pid)
        process.communicate()


def try_to_kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def ranks_of(process: subprocess.Popen[str]) -> dict[int, int]:
    """Rank to process, of the launcher's children."""
    listed = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False
    ).stdout
    found = {}
    for pid in map(int, listed.split()):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        found |= {int(text[5:]): pid for text in variables if text.startswith(b"RANK=")}
    return found


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for a condition that only a running process can make true."""

    def check() -> None:
        assert process.poll() is None, process.communicate()

    wait_until(condition, timeout=120, check=check)


def ended(process: subprocess.Popen[str], seconds: float = 20) -> tuple[str, str]:
    """Standard output and error of a run that must end soon."""
    return process.communicate(timeout=seconds)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_to_the_launcher_saves(data: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Loaders' workers live through it: the step that runs still needs them."""
    with launched(data, tmp_path / "run", *LONG, "DATA_LOADER.NUM_WORKERS", 1) as process:
        wait_for((tmp_path / "run" / LATEST).is_file, process)
        process.send_signal(number)
        shown, errors = ended(process)
    assert process.returncode == 75, errors
    assert "start the same command again to go on" in shown
    assert errors == ""
    state = state_of(tmp_path / "run")
    place = (state["epoch"] + 1, state["step"])
    assert (tmp_path / "run/PREEMPTED").read_text() == "epoch {} step {}\n".format(*place)
    assert (
        tuple(tiny.metrics(tmp_path / "run", "train")[-1][key] for key in ("epoch", "step"))
        == place
    )


@pytest.mark.slow
def test_one_rank_signalled_then_one_killed_and_the_numbers_are_the_same(
    data: Path, tmp_path: Path
) -> None:
    """A stop is no failure: no restart is used for it. Equal to one process that nobody disturbed."""
    out, few = tmp_path / "run", ("SOLVER.MAX_EPOCH", 40, "TRAIN.EVAL_PERIOD", 40)
    with launched(data, out, *few, MAX_RESTARTS="1") as process:
        wait_for((out / LATEST).is_file, process)
        os.kill(ranks_of(process)[1], signal.SIGTERM)
        _, errors = ended(process)
    assert (process.returncode, errors) == (75, "")
    assert (out / "PREEMPTED").is_file()
    before = (out / LATEST).stat().st_mtime_ns
    with launched(data, out, *few, MAX_RESTARTS="1") as process:
        wait_for(lambda: (out / LATEST).stat().st_mtime_ns > before, process)
        os.kill(ranks_of(process)[1], signal.SIGKILL)
        shown, errors = ended(process, 45)
    assert process.returncode == 0, errors
    assert (out / "DONE").is_file()
    assert shown.count("start: resumed") == 2
    build_trainer(tiny.config(data, tmp_path / "whole", *few)).fit()
    assert tiny.differences(state_of(out), state_of(tmp_path / "whole")) == []


@pytest.mark.slow
def test_two_machines_of_one_process_each_are_one_run(data: Path, tmp_path: Path) -> None:
    """And not two runs that write the same files; the numbers are those of one process."""
    out, few = tmp_path / "run", ("SOLVER.MAX_EPOCH", 1, "NUM_GPUS", 1, "NUM_SHARDS", 2)
    meeting = {"NPROC": "1", "NNODES": "2", "RDZV": f"127.0.0.1:{free_port()}"}
    with (
        launched(data, out, *few, NODE_RANK="0", **meeting) as first,
        launched(data, out, *few, NODE_RANK="1", **meeting) as second,
    ):
        shown = [ended(process, 45) for process in (first, second)]
        assert [process.returncode for process in (first, second)] == [0, 0], shown
    said = [line for _, errors in shown for line in errors.splitlines()]
    assert [line for line in said if not line.startswith("val ")] == [], "nothing but progress"
    assert json.loads((out / "run.json").read_text())["world_size"] == 2
    build_trainer(tiny.config(data, tmp_path / "whole", *few[:2])).fit()
    assert tiny.differences(state_of(out), state_of(tmp_path / "whole")) == []
    assert tiny.metrics(out) == tiny.metrics(tmp_path / "whole")


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_rank_ends_the_others_and_the_launcher_says_which(
    data: Path, tmp_path: Path, number: int
) -> None:
    with launched(data, tmp_path / "run", *LONG) as process:
        wait_for((tmp_path / "run" / LATEST).is_file, process)
        ranks = ranks_of(process)
        os.kill(ranks[number], signal.SIGKILL)
        _, errors = ended(process)
        assert not any(Path(f"/proc/{pid}").exists() for pid in ranks.values())
    assert process.returncode == 128 + signal.SIGKILL
    assert f"error: the process of rank {number} was killed by SIGKILL (out of memory?)" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run/DONE").exists()


def test_an_exception_in_one_ranks_dataset_is_what_is_shown(data: Path, tmp_path: Path) -> None:
    """With its rank and traceback, before anything that the other rank may say of not being the cause."""
    spoilt = """
import os
if os.environ.get("RANK") == "1":
    from nightcrawler.data.dataset import ClipDataset
    def get(self, key):
        raise ValueError("the disk of this machine is gone")
    ClipDataset.__getitem__ = get
"""
    (tmp_path / "sitecustomize.py").write_text(spoilt)
    with launched(data, tmp_path / "run", *LONG, PYTHONPATH=f"{tmp_path}:{ROOT}") as process:
        _, errors = ended(process, 45)
    assert process.returncode == 1
    shown = errors.splitlines()
    last = shown.index("[rank1]: ValueError: the disk of this machine is gone")
    assert shown[0] == "[rank1]: Traceback (most recent call last):"
    assert all(line.startswith("[rank1]: ") for line in shown[:last])
    assert all("rank 0 lost contact" in line for line in shown[last + 1 :])
    assert not (tmp_path / "run/DONE").exists()


@pytest.mark.parametrize(("env", "lacks"), [({}, "NODE_RANK"), ({"NODE_RANK": "0"}, "RDZV")])
def test_several_machines_must_say_which_they_are(
    tmp_path: Path, env: dict[str, str], lacks: str
) -> None:
    """Else each would train by itself."""
    with launched(tmp_path, tmp_path / "run", NNODES="2", **env) as process:
        _, errors = ended(process)
    assert process.returncode != 0
    assert f"{lacks}: NNODES is set: give" in errors


@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_launcher_takes_its_ranks_along_and_they_save(
    data: Path, tmp_path: Path, workers: int
) -> None:
    """They would keep their GPUs, and the folder's lock, until someone finds them."""
    out = tmp_path / "run"
    with launched(data, out, *LONG, "DATA_LOADER.NUM_WORKERS", workers) as process:
        wait_for((out / LATEST).is_file, process)
        ranks = ranks_of(process)
        assert len(ranks) == 2
        process.kill()
        process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ranks.values()), 60)
    assert (out / "PREEMPTED").is_file()
    state = state_of(out)
    saved = (state["epoch"] + 1, state["step"])
    assert (out / "PREEMPTED").read_text() == "epoch {} step {}\n".format(*saved)


RANK_PROGRAM = """
import subprocess, torch
from nightcrawler.utils import distributed
distributed.check_launcher_variables()
distributed.init_process_group(torch.device("cpu"), "auto", 20)
ranks = distributed.gather_objects(distributed.rank())
distributed.barrier()
if distributed.is_main():
    for name in ("tcp", "tcp6"):
        for line in open(f"/proc/net/{name}").read().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                print("listens", fields[9], fields[1].split(":")[0])
    print("ranks", ranks)
distributed.barrier()
distributed.shutdown()
"""
LOOPBACK_ADDRESSES = ("0100007F", "00000000000000000000000001000000")
NAMELESS = ["unshare", "-n", "-u", "sh", "-c"]


def launch_program(folder: Path) -> list[str]:
    (folder / "rank.py").write_text(RANK_PROGRAM)
    options = ["--standalone", "--nproc-per-node", "2", str(folder / "rank.py")]
    return [sys.executable, "-m", "nightcrawler.engine.launch", *options]


def test_processes_of_one_machine_listen_on_its_loopback_alone(tmp_path: Path) -> None:
    before = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
    before |= {line.split()[9] for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]}
    env = tiny.environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(
        launch_program(tmp_path), env=env, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ranks [0, 1]" in done.stdout
    rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("listens")]
    new = [address for inode, address in rows if inode not in before]
    if not new:
        pytest.skip("sockets of this machine cannot be listed")
    assert set(new) <= set(LOOPBACK_ADDRESSES)


def test_a_host_name_without_address_and_no_network(tmp_path: Path) -> None:
    """A laptop, a VPN, an offline node, a container."""
    probe = subprocess.run([*NAMELESS, "hostname nowhere"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this user may not make a network of its own")
    up = (
        "import fcntl, socket, struct;"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "fcntl.ioctl(s, 0x8914, struct.pack('16sh14x', b'lo', 0x41))"
    )
    command = shlex.join(launch_program(tmp_path))
    script = f"hostname nowhere; {shlex.quote(sys.executable)} -c {shlex.quote(up)}; {command}"
    env = tiny.environment(PYTHONPATH=str(ROOT), TORCH_CPP_LOG_LEVEL="ERROR")
    done = subprocess.run(
        [*NAMELESS, script], env=env, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ranks [0, 1]" in done.stdout


def test_a_closed_terminal_saves(data: Path, tmp_path: Path) -> None:
    """Break the connection: SIGHUP, and every write to the terminal is an error from then on."""
    out = tmp_path / "run"
    master, slave = os.openpty()
    # It validates all the time, with a bar.
    overrides = ("SOLVER.MAX_EPOCH", 5000, "TRAIN.EVAL_PERIOD", 1)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tools/run_net.py"), "train"]
        + tiny.arguments(data, out, *overrides),
        env=tiny.environment(PYTHONPATH=str(ROOT)),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:

        def drained() -> bool:
            os.read(master, 1 << 16)
            return (out / LATEST).is_file()

        wait_until(drained, timeout=60)
        os.close(master)
        process.send_signal(signal.SIGHUP)
        assert process.wait(30) == 75
    finally:
        process.kill()
        process.wait()
    assert (out / "PREEMPTED").is_file()
