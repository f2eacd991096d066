"""The workflow on a SLURM cluster with profiles/slurm: whole, and with jobs and driver stopped in every way.

The cluster is this machine, as one node of Debian's SLURM. What SLURM does to a job (limits, cancelling, preemption by
requeueing) and what Snakemake makes of it is real. Not tried, for want of the hardware: several nodes and their file
systems, accounting (`sacct`), preemption that cancels or suspends, GPU requests, the runs of `paper_figures`, and the
memory and times of the paper scale.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pandas as pd
import pytest
import yaml
from slurm_cluster import CPUS

pytestmark = pytest.mark.extended

PROFILE = ("--profile", "profiles/slurm")
TRAINERS = {"pretrain", "component_run"}
TARGET = "results/smoke/pretrain/seed0/training.csv"
LOG = "results/smoke/logs/pretrain/seed0.log"
SHORT = 2000  # steps; 20 to 30 seconds


def pretraining(steps: int, save_every: int = 100) -> tuple[str, ...]:
    """Arguments for pretraining alone, at smoke scale but for the number of steps."""
    return (
        "--config",
        "scale=smoke",
        f"pretrain={{steps: {steps}, checkpoint_steps: [0, {steps}], threads: 1, save_every: {save_every}}}",
        f"attention={{steps: [{steps}]}}",
        f"analyses={{steps: [{steps}], interventions: {{pre_shift_step: 0}}}}",
        "--",
        TARGET,
    )


def trained(checkout) -> dict[str, bytes]:
    """Loss curve and weights, by file name."""
    return {path.name: path.read_bytes() for path in (checkout.folder / TARGET).parent.iterdir()}


def until(condition, what: str, seconds: float = 120):
    """Wait for a true value and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


class Driver:
    """Snakemake in the background."""

    def __init__(self, checkout, *arguments: str):
        self.folder = checkout.folder
        self.output = self.folder / f"driver-{time.monotonic_ns()}.log"
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        with open(self.output, "w", encoding="utf-8") as stream:
            settings = {"cwd": self.folder, "env": environment, "stdout": stream, "stderr": subprocess.STDOUT}
            self.process = subprocess.Popen(command, start_new_session=True, **settings)

    def finish(self, seconds: float = 600) -> None:
        """Wait for success."""
        assert self.process.wait(timeout=seconds) == 0, self.output.read_text(encoding="utf-8")[-5000:]

    def job(self, number: int) -> str:
        """The SLURM id of its job `number`, counting from 0, as soon as there is one."""

        def ids():
            return re.findall(r"submitted with SLURM jobid (\d+)", self.output.read_text(encoding="utf-8"))[number:]

        return until(ids, f"{number + 1} submissions in {self.output}")[0]

    def wait_for_save(self) -> None:
        store = self.folder / "results/.store"
        until(lambda: list(store.glob("*/last.safetensors")), f"a trainer saves in {store}")

    def logged(self, pattern: str) -> re.Match:
        """The match of `pattern` in the trainer's log, as soon as there is one."""
        log = self.folder / LOG

        def match():
            with suppress(FileNotFoundError):  # Snakemake removes it when the next attempt starts
                return re.search(pattern, log.read_text(encoding="utf-8"))

        return until(match, f"{pattern} in {log}")


def said(*command: str) -> str:
    """What a command of SLURM prints."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def shown(job: str, key: str) -> str:
    """A value that SLURM keeps about a job, finished or not."""
    return re.search(rf"\b{key}=(\S+)", said("scontrol", "show", "job", job))[1]


@pytest.fixture(scope="module")
def whole_run(slurm, smoke_run, new_checkout):
    """Everything at smoke scale: the checkout, and what Snakemake printed."""
    checkout, start = new_checkout("whole"), time.monotonic()
    result = checkout.snakemake(*PROFILE, "--config", "scale=smoke")
    assert result.returncode == 0, result.stdout[-5000:]
    return checkout, result.stdout, time.monotonic() - start


def test_the_whole_workflow_gives_the_bytes_of_a_local_run(whole_run, smoke_run, capsys):
    with capsys.disabled():
        print(f"\nthe smoke scale on SLURM took {whole_run[2]:.0f} s")
    local, slurm = (checkout.folder / "results/smoke" for checkout in (smoke_run, whole_run[0]))
    files = [path for suffix in ("csv", "safetensors", "h5") for path in local.rglob(f"*.{suffix}")]
    assert len(files) > 30
    assert [path for path in files if path.read_bytes() != (slurm / path.relative_to(local)).read_bytes()] == []


def test_only_trainers_queue_singly(whole_run):
    submitted = re.findall(r"/results/\.slurm/(rule|group)_(\w+)", whole_run[1])
    singly = {name for kind, name in submitted if kind == "rule"}
    assert singly == TRAINERS, "a rule of seconds: name it in the groups of profiles/slurm or make it a localrule"
    assert sum(kind == "group" for kind, _ in submitted) <= 2


@pytest.fixture(scope="module")
def time_limited(slurm, smoke_run, new_checkout):
    """A run of about three minutes, and the same one as a job that may take one; both go on during the tests below."""
    results = smoke_run.folder / "results/smoke"
    seconds = pd.read_csv(results / "benchmarks/pretrain/seed0.tsv", sep="\t")["s"].mean()
    config = yaml.safe_load((results / "config.yaml").read_text(encoding="utf-8"))["pretrain"]
    steps = round(180 * config["steps"] / seconds / config["log_every"]) * config["log_every"]
    # Nothing is saved but at SIGTERM: what is resumed was saved then.
    arguments = pretraining(steps, save_every=steps)
    local = Driver(new_checkout("undisturbed"), *arguments)
    # SLURM's limits are whole minutes; the second attempt gets two.
    limit = ("--set-resources", "pretrain:runtime=attempt")
    limited = Driver(new_checkout("limited"), *PROFILE, *limit, *arguments)
    yield local, limited
    for driver in (local, limited):
        with suppress(ProcessLookupError):
            os.killpg(driver.process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def short_run(new_checkout):
    """What an undisturbed local run gives."""
    checkout = new_checkout("short")
    result = checkout.snakemake(*pretraining(SHORT))
    assert result.returncode == 0, result.stdout[-5000:]
    return trained(checkout)


def test_a_cancelled_job_is_submitted_again_and_resumes(time_limited, short_run, new_checkout):
    driver = Driver(checkout := new_checkout("cancelled"), *PROFILE, *pretraining(SHORT))
    driver.wait_for_save()
    said("scancel", driver.job(0))
    saved = driver.logged(r"SIGTERM: saved after step (\d+)")[1]
    assert driver.logged(r"resuming after step (\d+)")[1] == saved
    driver.finish()
    assert shown(driver.job(0), "JobState") == "CANCELLED"
    assert trained(checkout) == short_run


def test_a_preempted_job_goes_back_into_the_queue_and_resumes(time_limited, short_run, new_checkout):
    driver = Driver(checkout := new_checkout("preempted"), *PROFILE, *pretraining(SHORT))
    driver.wait_for_save()
    # One CPU more than are idle, so that one job must go: the youngest.
    idle = int(said("sinfo", "-h", "-o", "%C").split("/")[1])  # allocated/idle/other/total
    said("sbatch", "--partition=urgent", f"--ntasks={idle + 1}", "--mem=100", "--output=/dev/null", "--wrap=true")
    saved = driver.logged(r"SIGTERM: saved after step (\d+)")[1]
    assert driver.logged(r"resuming after step (\d+)")[1] == saved
    driver.finish()
    assert shown(driver.job(0), "Restarts") == "1"
    assert trained(checkout) == short_run


def test_a_trainer_waits_for_the_one_that_outlived_its_driver(time_limited, short_run, new_checkout):
    checkout = new_checkout("orphaned")
    killed = Driver(checkout, *PROFILE, *pretraining(SHORT))
    killed.wait_for_save()
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    assert checkout.snakemake("--unlock").returncode == 0
    driver = Driver(checkout, *PROFILE, *pretraining(SHORT))
    driver.logged(r"process \d+ on \S+ works on \S+: waiting until it has finished or is killed")
    driver.finish()
    assert [shown(job, "JobState") for job in (killed.job(0), driver.job(0))] == ["COMPLETED", "COMPLETED"]
    assert not re.search("resuming|step", (checkout.folder / LOG).read_text(encoding="utf-8")), "it trained again"
    assert trained(checkout) == short_run


def test_more_memory_than_any_node_has_is_refused_at_once(slurm, new_checkout):
    start = time.monotonic()
    huge = ("--set-resources", "pretrain:mem_mb=10000000")
    result = new_checkout("huge").snakemake(*PROFILE, *huge, *pretraining(SHORT))
    assert result.returncode != 0
    assert "Memory specification can not be satisfied" in result.stdout
    assert time.monotonic() - start < 60


def test_a_group_with_more_cores_than_any_node_has_says_why_it_does_not_start(slurm, new_checkout):
    seeds = range(CPUS + 1)
    targets = [f"results/smoke/analyses/baselines/seed{seed}.csv" for seed in seeds]
    arguments = ("--cores", str(CPUS + 1), "--config", "scale=smoke", f"seeds={list(seeds)}", "--", *targets)
    driver = Driver(new_checkout("too_wide"), *PROFILE, *arguments)
    job = driver.job(0)
    try:
        line = f"SLURM job {job} (rule_baselines_baselines) does not start: PartitionConfig; no node of its partition"
        until(lambda: line in driver.output.read_text(encoding="utf-8"), f"{line} in {driver.output}")
    finally:
        driver.process.kill()
        said("scancel", job)


def test_inside_an_allocation_without_the_profile_jobs_keep_to_it(slurm, new_checkout, tmp_path):
    checkout, output = new_checkout("allocated"), tmp_path / "output"
    command = shlex.join(
        [sys.executable, "-m", "snakemake", "--cores", "all", "--config", "scale=smoke", "--", "prune"]
    )
    allocation = ("--cpus-per-task=1", "--mem=700", f"--chdir={checkout.folder}", f"--output={output}")
    said("sbatch", "--wait", *allocation, f"--wrap={command}")
    printed = output.read_text(encoding="utf-8")
    assert "Provided cores: 1 " in printed and 'mem_mb=Resource("mem_mb", 700)' in printed
    assert "1 of 1 steps (100%) done" in printed


def test_inside_an_allocation_with_the_profile_jobs_get_allocations_of_their_own(slurm, new_checkout):
    checkout = new_checkout("inside")
    command = [sys.executable, "-m", "snakemake", *PROFILE, "--config", "scale=smoke", "--"]
    target = "results/smoke/analyses/baselines/seed0.csv"
    allocation = ["salloc", "--cpus-per-task=1", "--mem=700"]
    subprocess.run([*allocation, *command, target], cwd=checkout.folder, check=True, capture_output=True)
    assert (checkout.folder / target).exists()


def test_a_job_that_reaches_its_time_limit_is_submitted_again_and_resumes(time_limited):
    local, limited = time_limited
    limited.finish()
    local.finish()
    assert shown(limited.job(0), "JobState") == "TIMEOUT"
    assert int(limited.logged(r"resuming after step (\d+)")[1]) > 0
    assert trained(limited) == trained(local)
