"""What a job says when it fails."""

import subprocess
import sys
from pathlib import Path

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
