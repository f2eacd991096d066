"""Makes Snakemake get along with the machine that it runs on."""

import getpass
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from snakemake.settings.types import DeploymentMethod

# Why SLURM lets a job wait that will start by itself, as squeue says it.
PASSING = {"None", "Priority", "Resources", "BeginTime", "Dependency", "Prolog", "Cleaning"}
REMEDIES = {
    "PartitionConfig": "no node of its partition has so many CPUs: give a smaller --cores, or another partition",
    "PartitionTimeLimit": "its partition allows less time: give a shorter runtime, or another partition",
}
SECONDS_BETWEEN_LOOKS = 30


def prepare(workflow: Any) -> None:
    """Allow for what Snakemake does not expect: a space in the path of Python, a user without a name, and packages of
    the user's own beside conda. Where jobs run on this machine, limit them to its memory, to the cores and memory of a
    SLURM allocation, and one at a time to the GPU. What --resources says comes first."""
    # Snakemake puts this path into shell commands as it is.
    sys.executable = shlex.quote(sys.executable)
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method:
        # Packages that the user installed for all Pythons would come before those of an environment.
        os.environ["PYTHONNOUSERSITE"] = "1"
    if not workflow.is_main_process or workflow.resource_settings.nodes is not None:
        return
    for name, limit in {"mem_mb": memory_mb(), "gpu": 1}.items():
        if name not in workflow.global_resources:
            workflow.register_resource(name, limit)
    cores = workflow.resource_settings.cores
    if cores is not None and "SLURM_CPUS_ON_NODE" in os.environ:
        workflow.register_resource("_cores", min(cores, int(os.environ["SLURM_CPUS_ON_NODE"])))


def memory_mb(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> int:
    """How much memory jobs may use here, in MB: what the machine has, or less if a control group (a container's, say)
    or a SLURM allocation allows less. `root` holds proc and sys."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6]
    limits += [limit // 10**6 for limit in _control_group_limits(root)]
    if "SLURM_MEM_PER_NODE" in environ:
        limits.append(int(environ["SLURM_MEM_PER_NODE"]))
    elif "SLURM_MEM_PER_CPU" in environ:
        limits.append(int(environ["SLURM_MEM_PER_CPU"]) * int(environ["SLURM_CPUS_ON_NODE"]))
    return min(limit for limit in limits if limit > 0)


def _control_group_limits(root: Path) -> Iterator[int]:
    """The memory limits, in bytes, of the control groups that this process is in, of version 1 or 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        folder = mount / group.lstrip("/")
        for place in [folder, *folder.parents]:
            if (place / name).is_file() and (text := (place / name).read_text(encoding="utf-8").strip()) != "max":
                yield int(text)
            if place == mount:
                break


def tell_why_jobs_wait(say: Callable[[str], None]) -> None:
    """Say, from now on, why a SLURM job of this folder does not start, once for each; Snakemake would wait in silence.
    Without effect where there is no SLURM."""
    if shutil.which("squeue"):
        threading.Thread(target=_look_at_the_queue, args=(say,), daemon=True).start()


def _look_at_the_queue(say: Callable[[str], None]) -> None:
    told = set()
    while True:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        command = ["squeue", "--me", "--noheader", "--states=PENDING", "--format=%A|%Z|%k|%r"]
        listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        for line in reasons(listing, os.getcwd()):
            if line not in told:
                told.add(line)
                say(line)


def reasons(listing: str, folder: str) -> list[str]:
    """A line for each waiting job of `folder` that does not start by itself; `listing` is what squeue prints as
    id|folder|comment|reason."""
    found = []
    for line in listing.splitlines():
        job, where, comment, reason = line.split("|", 3)
        if where == folder and reason not in PASSING:
            remedy = REMEDIES.get(reason, "`man squeue` says what this means")
            found.append(f"SLURM job {job} ({comment}) does not start: {reason}; {remedy}. To cancel it: scancel {job}")
    return found
