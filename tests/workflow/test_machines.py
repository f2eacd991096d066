"""Machines and accounts that people run on: `prune`, which needs nothing, stands for any job."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from requirements import unavailable

REPOSITORY = Path(__file__).parents[2]
JOB = ("--cores", "2", "--config", "scale=smoke", "--", "prune")


def run(checkout, *command, **variables: str | None) -> str:
    """What a command prints that succeeds in the checkout; None takes a variable out of its environment."""
    environment = {**os.environ, "PYTHONPATH": None, **variables}
    environment = {name: value for name, value in environment.items() if value is not None}
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "encoding": "utf-8"}
    result = subprocess.run(command, cwd=checkout.folder, env=environment, check=False, **settings)
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def snakemake(checkout, *arguments: str, python: Path | str = sys.executable, **variables: str | None) -> str:
    return run(checkout, python, "-m", "snakemake", *arguments, **variables)


@pytest.fixture(scope="module")
def checkout(new_checkout):
    """In a folder with a space."""
    return new_checkout("my work")


def test_python_in_a_folder_with_a_space_runs_jobs(checkout):
    (checkout.folder / ".venv").symlink_to(sys.prefix)
    python = checkout.folder / ".venv/bin" / Path(sys.executable).name
    assert "1 of 1 steps (100%) done" in snakemake(checkout, *JOB, python=python)


def test_user_without_a_name_runs_jobs(new_checkout):
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        unavailable("taking a user id that has no name needs root and setpriv")
    checkout, uid = new_checkout("nameless"), "54321"
    for path in [checkout.folder, *checkout.folder.rglob("*")]:
        os.chown(path, int(uid), int(uid))
    # May read what root may: this Python can lie in root's home.
    become = ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups"]
    become += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    nameless = dict.fromkeys(["LOGNAME", "USER", "LNAME", "USERNAME"])
    command = [*become, sys.executable, "-m", "snakemake", *JOB]
    assert f"User: uid{uid}" in run(checkout, *command, HOME=str(checkout.folder), **nameless)


@pytest.mark.parametrize("home", ["/proc/nobody", "", None])
def test_make_gives_a_user_without_a_home_one_in_the_environment_that_it_makes(checkout, home):
    command = ["make", "--silent", "--file", REPOSITORY / "Makefile", "--eval", "home:\n\t@echo $$HOME", "home"]
    assert run(checkout, *command, HOME=home).strip() == f"{checkout.folder}/.venv/home"


def test_make_hands_what_it_is_given_for_pip_to_pip(checkout):
    command = ["make", "--dry-run", "--file", REPOSITORY / "Makefile", ".venv/workflow", "PIP_ARGS=--find-links wheels"]
    assert "-m pip install --quiet --find-links wheels -r envs/requirements.txt" in run(checkout, *command)


def test_jobs_at_one_time_take_no_more_memory_than_there_is_however_many_cores_are_given(checkout):
    printed = snakemake(checkout, "--cores", "64", *JOB[2:])
    megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6
    limit = printed.split('mem_mb=Resource("mem_mb", ')[1].split(")")[0]
    assert 0 < int(limit) <= megabytes


def test_resources_of_the_command_line_come_first(checkout):
    printed = snakemake(checkout, "--resources", "mem_mb=123", *JOB)
    assert 'mem_mb=Resource("mem_mb", 123)' in printed and 'gpu=Resource("gpu", 1)' in printed


def test_ascii_locale_reads_every_file(checkout):
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert "This was a dry-run" in snakemake(checkout, "--dry-run", *JOB[:-2], **ascii_only)
    assert "1 of 1 steps (100%) done" in snakemake(checkout, *JOB, **ascii_only)


def test_snakemakes_lint_has_no_complaint(checkout):
    assert "your workflow is in a good condition" in snakemake(checkout, "--lint")
