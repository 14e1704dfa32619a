"""A real SLURM of one node on this machine, for tests: its daemons, configuration and state in a folder of the test's own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
MISSING = [name for name in NEEDED if not shutil.which(name)]
REASON = (
    f"No SLURM to test with: {', '.join(MISSING)} missing (Debian: slurm-wlm, munge)."
    if MISSING
    else "Only root can start SLURM's daemons."
    if os.getuid()
    else ""
)
PARTITION = "work"
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={control}
SlurmdPort={node}
SchedulerParameters=sched_interval=1,batch_sched_delay=0,requeue_delay=1
KillWait=2
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=3000 State=UNKNOWN
PartitionName={partition} Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class NotStarted(Exception):
    """This machine cannot run SLURM's daemons, as in a container without a host name of its own."""


@contextmanager
def one_node(folder: Path) -> Iterator[None]:
    """SLURM's daemons; commands of this process reach them meanwhile."""
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().partition(".")[0]
    ports = {"control": _free_port(), "node": _free_port()}
    values = {"folder": folder, "host": host, "cores": psutil.cpu_count(), "partition": PARTITION, **ports}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    daemons = [subprocess.Popen(command, **_quiet(folder)) for command in _munge(folder)]
    try:
        _wait(lambda: (folder / "munge" / "socket").exists())
        for command in (["slurmctld", "-D"], ["slurmd", "-D"]):
            daemons.append(subprocess.Popen(command, **_quiet(folder)))
        _wait(lambda: "idle" in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True).stdout)
        yield
    finally:
        subprocess.run(["scancel", "--full", "-u", "root"], check=False)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before


def _munge(folder: Path) -> list[list[str]]:
    munge = folder / "munge"
    (munge / "key").write_bytes(os.urandom(128))
    (munge / "key").chmod(0o400)
    munge.chmod(0o755)  # clients have to find the socket
    files = [f"--{name}={munge / name.replace('-', '.')}" for name in ("pid-file", "log-file", "seed-file")]
    return [["munged", "--foreground", "--force", f"--socket={munge}/socket", f"--key-file={munge}/key", *files]]


def _quiet(folder: Path) -> dict:
    return {"stdout": subprocess.DEVNULL, "stderr": open(folder / "errors.txt", "ab"), "cwd": folder}


def _wait(holds, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise NotStarted("SLURM's daemons are installed but do not start here.")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
