"""What a job says when it fails."""

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

FAILING = """
from abrupt.errors import InputError
from abrupt.job import job_log
with job_log("/dev/full"):
    raise InputError("results/table.csv: no space left on the disk")
"""


def test_error_on_a_full_disk_is_one_line_though_the_log_cannot_be_written():
    workflow = Path(__file__).parents[2] / "workflow"
    result = subprocess.run([sys.executable, "-c", FAILING], cwd=workflow, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "error: results/table.csv: no space left on the disk\n"


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
    workflow = Path(__file__).parents[2] / "workflow"
    result = subprocess.run([sys.executable, "-c", ALLOCATING], cwd=workflow, capture_output=True, text=True)
    pages_of_one = 2 * 10**7 / resource.getpagesize()
    assert int(result.stdout) < pages_of_one
