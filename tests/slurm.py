"""A real Slurm on this machine for tests: two small nodes, as the user who runs the tests.

`slurmctld`, a `slurmd` for each node and `munged` live in a folder of their own and end with the
tests. Nothing of the machine's own Slurm is touched.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PACKAGES = "Debian's packages munge, slurmctld, slurmd and slurm-client (.ci/install_packages.sh)"
NODES = ("n1", "n2")
# No cgroups, no accounting, no plugin that asks for hardware: what a container has. Processors and
# GPUs are those of the file, not of the machine. Slurm starts a job that was queued again when
# its first credentials have expired, 120 s by default.
CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=64 RealMemory=64000 Gres=gpu:4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=64 RealMemory=64000 Gres=gpu:4
PartitionName=day Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=night Nodes=ALL MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Reason why Slurm cannot be started here, empty if it can."""
    # A user's PATH may lack /usr/sbin, where the daemons are.
    missing = [name for name in PROGRAMS if find(name) is None]
    if missing:
        return f"needs {PACKAGES}: {', '.join(missing)} not found"
    if os.geteuid() != 0:
        return "slurmd runs jobs as root only"
    return ""


def find(program: str) -> str | None:
    """Path of a program, of a daemon too."""
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def ask(*command: str) -> str:
    """Output of a command of Slurm, which must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def jobs() -> list[str]:
    """`ID NAME STATE` of all jobs that wait or run."""
    return ask("squeue", "--noheader", "--format", "%A %j %T").splitlines()


def cancel_all() -> None:
    """Cancel all jobs and wait until none is left."""
    ask("scancel", "--user", getpass.getuser())
    wait_until(lambda: not jobs(), 60, "all jobs have ended", period=0.2)


@contextlib.contextmanager
def running() -> Iterator[Path]:
    """Start Slurm, wait until its nodes are idle, and end it; gives the folder of its files."""
    # Below /tmp: the paths of sockets may have 107 characters only.
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, contextlib.ExitStack() as daemons:
        folder = Path(name)
        folder.chmod(0o755)
        write_files(folder)
        environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

        def start(program: str, *options: str) -> None:
            with open(folder / f"{program}.out", "ab") as log:
                path = find(program)
                assert path is not None
                process = subprocess.Popen(
                    [path, *options], stdout=log, stderr=log, env=environment
                )
            daemons.callback(process.wait, 20)
            daemons.callback(process.terminate)

        start("munged", *munge_options(folder))
        wait_until((folder / "munge.socket").exists, 20, "munged listens")
        start("slurmctld", "-D", "-c")
        for node in NODES:
            start("slurmd", "-D", "-N", node)

        def idle() -> bool:
            asked = subprocess.run(
                ["sinfo", "--noheader", "--partition=day", "--format=%T %D"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            return asked.stdout.split() == ["idle", str(len(NODES))]

        try:
            wait_until(idle, 60, "nodes are idle", period=0.2)
        except AssertionError as error:
            logs = [*folder.glob("*.out"), *folder.glob("*.log")]
            text = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in logs)
            raise AssertionError(f"{error}\n{text}") from None
        yield folder


def write_files(folder: Path) -> None:
    """The configuration, and folders that the daemons write to."""
    ports = free_ports(1 + len(NODES))
    text = CONFIG.format(
        host=socket.gethostname().split(".")[0],
        folder=folder,
        ports=ports,
        user=getpass.getuser(),
    )
    (folder / "slurm.conf").write_text(text)
    # A GPU is a device file, and any file is one where no cgroup guards it.
    for number in range(4):
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-3]\n")
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)


def munge_options(folder: Path) -> list[str]:
    """Options of a `munged` that shares nothing with the machine's."""
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log"}
    options = [f"--{name}={folder}/munge.{end}" for name, end in files.items()]
    return ["--foreground", "--force", f"--seed-file={folder}/munge.seed", *options]
