"""Snakemake and its trainer killed together, and the same command given again."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow

# Smoke scale cut short: what is tested here is going on, not learning.
SHORT = (
    "--config",
    "scale=smoke",
    "pretrain={steps: 600, checkpoint_steps: [0, 100, 600], save_every: 25}",
    "attention={steps: [0, 600]}",
    "analyses={steps: [0, 600], interventions: {pre_shift_step: 100}}",
    "--",
    "results/smoke/pretrain/seed0/training.csv",
)
FILES = ("training.csv", "step0.safetensors", "step100.safetensors", "step600.safetensors")


def trained(folder):
    return {name: (folder / "results/smoke/pretrain/seed0" / name).read_bytes() for name in FILES}


def test_killed_driver_and_trainer_resume_to_the_same_bytes(new_checkout):
    undisturbed, killed = new_checkout("undisturbed"), new_checkout("killed")
    assert undisturbed.snakemake(*SHORT).returncode == 0
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *SHORT]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=killed.folder, start_new_session=True, **quiet)
    while not list((killed.folder / "results/.state").glob("**/last.safetensors")):
        assert process.poll() is None, "the run ended before it saved"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert killed.snakemake("--unlock").returncode == 0
    result = killed.snakemake(*SHORT)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "resuming after step" in (killed.folder / "results/smoke/logs/pretrain/seed0.log").read_text()
    assert trained(killed.folder) == trained(undisturbed.folder)


def test_finished_state_outlives_a_run_that_had_nothing_to_do_with_it(new_checkout):
    checkout = new_checkout("other")
    state = checkout.folder / "results/.state/smoke/pretrain/seed0/of-an-orphan"
    state.mkdir(parents=True)
    (state / "finished.json").write_text("{}")
    needs_no_model = "results/smoke/analyses/baselines/seed0.csv"
    result = checkout.snakemake("--config", "scale=smoke", "analyses={matrices: 8}", "--", needs_no_model)
    assert result.returncode == 0, result.stdout[-3000:]
    assert (state / "finished.json").exists()


def test_copied_results_of_another_configuration_are_not_judged(smoke_run, new_checkout):
    copy = new_checkout("copy")
    shutil.copytree(smoke_run.folder / "results", copy.folder / "results")
    for path in (copy.folder / "results").rglob("*"):
        os.utime(path)  # newer than the library, as after a download
    claims = "results/smoke/claims.csv"
    result = copy.snakemake(
        "--config", "scale=smoke", "pretrain={learning_rate: 0.01}", "--forcerun", claims, "--", claims
    )
    assert result.returncode != 0
    assert "made with another configuration (pretrain.learning_rate: 0.001 -> 0.01)" in result.stdout
