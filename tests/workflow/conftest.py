"""A copy of the repository, and one complete smoke-scale run of it that the tests of this folder share."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from requirements import unavailable
from slurm_cluster import install, one_node_cluster

REPOSITORY = Path(__file__).parents[2]
PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "envs")


class Checkout:
    """A copy of the repository to run Snakemake in."""

    def __init__(self, folder: Path):
        self.folder = folder
        for part in PARTS:
            source = REPOSITORY / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, folder / part)

    def snakemake(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Run Snakemake with stdout and stderr as one text in `.stdout`."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        settings = {"cwd": self.folder, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(command, text=True, check=False, **settings, **options)

    def smoke(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.snakemake("--config", "scale=smoke", "--", *arguments)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Where tests run side by side, one process has all that rest on the one complete run, so that it is made once."""
    for item in items:
        if "smoke_run" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("smoke"))


@pytest.fixture(scope="session")
def new_checkout(tmp_path_factory):
    """A function that makes a fresh copy called by a name."""
    return lambda name: Checkout(tmp_path_factory.mktemp(name))


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Checkout:
    """For dry runs and errors: nothing has been run in it."""
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory) -> Checkout:
    """Everything, from nothing, at smoke scale."""
    run = Checkout(tmp_path_factory.mktemp("smoke"))
    result = run.smoke()
    assert result.returncode == 0, result.stdout[-5000:]
    return run


@pytest.fixture(scope="session")
def slurm():
    """A SLURM cluster of one node that claims four CPUs: this machine."""
    if reason := install():
        unavailable(reason)
    with one_node_cluster():
        yield
