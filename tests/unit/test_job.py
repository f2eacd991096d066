"""What a job does around its work: what it says when it fails, memory, cores."""

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

WORKFLOW = Path(__file__).parents[2] / "workflow"
FAILING = """
from abrupt.errors import InputError
from abrupt.job import job_log
with job_log("/dev/full"):
    raise InputError("results/table.csv: no space left on the disk")
"""


def test_error_on_a_full_disk_is_one_line_though_the_log_cannot_be_written():
    result = subprocess.run([sys.executable, "-c", FAILING], cwd=WORKFLOW, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "error: results/table.csv: no space left on the disk\n"


IMPORTING = """
import importlib, sys
from abrupt.job import job_log
with job_log(sys.argv[1]):
    importlib.import_module(sys.argv[2])
"""


def last_line(log: Path, module: str, python: str = sys.executable, **environment: str | Path) -> str:
    """The last line that a job writes to stderr and to its log, if it fails to import `module`."""
    variables = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    command = [python, "-c", IMPORTING, log, module]
    result = subprocess.run(command, cwd=WORKFLOW, capture_output=True, text=True, env=variables, check=False)
    assert result.returncode == 1
    line = result.stderr.splitlines()[-1]
    assert log.read_text(encoding="utf-8").splitlines()[-1].endswith(line)
    return line


@pytest.mark.parametrize(
    ("package", "content", "reason"),
    [
        ("numpy", "raise ImportError('built for another Python')", "built for another Python"),
        ("numpy", "", "module 'numpy' has no attribute '__version__'"),
        ("dateutil", "from dateutil import absent", "cannot import name 'absent' from partially initialized module"),
    ],
)
def test_broken_package_in_front_is_named_with_its_file_and_pythonpath(tmp_path, package, content, reason):
    file = tmp_path / package / "__init__.py"
    file.parent.mkdir()
    file.write_text(content, encoding="utf-8")
    line = last_line(tmp_path / "log", "pandas", PYTHONPATH=tmp_path)
    assert line.startswith(f"error: {package} cannot be imported from {file}: {reason}")
    assert line.endswith(f"; it comes first because PYTHONPATH names {tmp_path}: unset PYTHONPATH")


def test_broken_package_among_the_users_own_is_named_with_the_remedy(tmp_path):
    python = sys._base_executable  # a virtual environment does not see the user's own packages
    own = subprocess.run(
        [python, "-c", "import site; print(site.getusersitepackages())"],
        env={**os.environ, "PYTHONUSERBASE": str(tmp_path)},
        **{"capture_output": True, "text": True, "check": True},
    ).stdout.strip()
    file = Path(own) / "pandas.py"
    file.parent.mkdir(parents=True)
    file.write_text("1 / 0", encoding="utf-8")
    assert last_line(tmp_path / "log", "pandas", python, PYTHONUSERBASE=tmp_path) == (
        f"error: pandas cannot be imported from {file}: division by zero; "
        "it is among your own packages, which come first: set PYTHONNOUSERSITE=1"
    )


def test_missing_package_is_named_with_the_remedy(tmp_path):
    line = last_line(tmp_path / "log", "absent")
    assert line == "error: No module named 'absent': install what envs/requirements.txt lists"


BOUND = """
import os, sys
from abrupt.job import job_log
before = os.sched_getaffinity(0)
with job_log(sys.argv[1]):
    import torch
    torch.set_num_threads(1)
print(len(before), os.sched_getaffinity(0) == before)
"""


@pytest.mark.parametrize(
    "binding", [{"OMP_PROC_BIND": "true"}, {"OMP_PLACES": "cores"}, {"GOMP_CPU_AFFINITY": "0"}], ids=str
)
def test_a_job_may_use_all_cores_that_it_was_given(tmp_path, binding):
    # Bound by OpenMP, every job that runs beside another would sit on the first of them.
    command = [sys.executable, "-c", BOUND, tmp_path / "log"]
    environment = {**os.environ, **binding}
    result = subprocess.run(command, cwd=WORKFLOW, capture_output=True, text=True, env=environment, check=True)
    cores, unbound = result.stdout.split()
    if cores == "1":
        pytest.skip("this machine gives one core")
    assert unbound == "True"


ALLOCATING = """
import resource
import torch
from abrupt.job import prepare_torch
prepare_torch("cpu", threads=1)
def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):  # the heap grows to what is needed
    torch.ones(5 * 10**6)
before = page_faults()
for _ in range(10):
    torch.ones(5 * 10**6)
print(page_faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about the allocator of glibc")
def test_memory_freed_by_one_step_serves_the_next():
    result = subprocess.run([sys.executable, "-c", ALLOCATING], cwd=WORKFLOW, capture_output=True, text=True)
    pages_of_one = 2 * 10**7 / resource.getpagesize()
    assert int(result.stdout) < pages_of_one
