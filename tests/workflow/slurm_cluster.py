"""A SLURM cluster of one node, this machine, from Debian's packages; for tests.

    python tests/workflow/slurm_cluster.py [CPUS]   # as root: start one, wait for Enter, stop it

SLURM's configuration must lie at /etc/slurm/slurm.conf: Snakemake's jobs forget SLURM_CONF. A file that is there
already belongs to a cluster of this machine's own, which is left alone.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

CONFIGURATION = Path("/etc/slurm/slurm.conf")
MARK = "# One node for tests; removed when they end."
LOCK = Path(tempfile.gettempdir()) / "abrupt-slurm-cluster.lock"
SECONDS_TO_START = 30
CPUS, MEMORY = 4, 16000  # MB; what the node claims, whatever the machine has
KILL_WAIT = 30  # seconds from SIGTERM to SIGKILL, as SLURM comes

SETTINGS = """{mark}
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job starts again after so many seconds.
AuthInfo=cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=bf_interval=2,sched_interval=2,preempt_youngest_first
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=3600
KillWait={kill_wait}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=normal Nodes={host} Default=YES DefaultTime=10 MaxTime=60 PriorityTier=1 State=UP
PartitionName=urgent Nodes={host} DefaultTime=1 MaxTime=5 PriorityTier=2 State=UP
"""


def install() -> str | None:
    """Install SLURM and munge if need be. The reason if a cluster cannot be started here, None if it can."""
    if os.geteuid() != 0:
        return "starting a SLURM cluster needs root"
    if not (shutil.which("slurmctld") and shutil.which("munged")):
        if not shutil.which("apt-get"):
            return "SLURM (slurm-wlm) and munge are not installed, and there is no apt-get to install them"
        quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdout": subprocess.PIPE}
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", "slurm-wlm", "munge"]):
            result = subprocess.run(["apt-get", *arguments], stderr=subprocess.STDOUT, text=True, check=False, **quiet)
            if result.returncode != 0:
                return f"apt-get {arguments[0]} failed: {result.stdout.strip().splitlines()[-1]}"
    if CONFIGURATION.exists() and MARK not in CONFIGURATION.read_text(encoding="utf-8"):
        return f"{CONFIGURATION} is not from these tests: this machine has a cluster of its own"
    return None


@contextmanager
def one_node_cluster(cpus: int = CPUS) -> Iterator[Path]:
    """Run a cluster whose node claims `cpus` CPUs; gives the folder of its logs. Waits for another such cluster on this
    machine to end."""
    with FileLock(LOCK), tempfile.TemporaryDirectory(prefix="slurm-") as name, _munged():
        _stop_daemons()  # of tests that were killed
        folder = Path(name)
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        host = socket.gethostname().split(".")[0]
        settings = {"cpus": cpus, "memory": MEMORY, "kill_wait": KILL_WAIT}
        CONFIGURATION.write_text(SETTINGS.format(mark=MARK, host=host, folder=folder, **settings), encoding="utf-8")
        try:
            for daemon in ("slurmctld", "slurmd"):
                subprocess.run([f"/usr/sbin/{daemon}"], check=True)
            _wait_until_idle(folder)
            yield folder
        finally:
            subprocess.run(["scancel", "--partition=normal,urgent"], check=False)
            _stop_daemons()


@contextmanager
def _munged() -> Iterator[None]:
    """Have munge, which SLURM's daemons trust each other by, running."""
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
        yield
        return
    subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", "0755", "/run/munge"], check=True)
    subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=True)
    try:
        yield
    finally:
        _stop(Path("/run/munge/munged.pid"))


def _wait_until_idle(folder: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        states = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False).stdout
        if "idle" in states:
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text(encoding="utf-8")[-2000:] for path in folder.glob("*.log"))
    raise RuntimeError(f"SLURM did not start within {SECONDS_TO_START} s:\n{logs}")


def _stop_daemons() -> None:
    """Stop the daemons of the configuration in place, and remove it."""
    if CONFIGURATION.exists():
        for path in re.findall(r"PidFile=(\S+)", CONFIGURATION.read_text(encoding="utf-8")):
            _stop(Path(path))
        CONFIGURATION.unlink()


def _stop(pid_file: Path) -> None:
    """End the daemon and wait until it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        pid = int(pid_file.read_text(encoding="utf-8"))
        os.kill(pid, 15)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.1)


if __name__ == "__main__":
    if reason := install():
        raise SystemExit(reason)
    with one_node_cluster(*map(int, sys.argv[1:])) as logs:
        input(f"a cluster of one node is up, its logs are in {logs}; Enter stops it ")
