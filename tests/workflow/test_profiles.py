"""What every rule asks of a cluster, and the commands of docs/running.md for one as dry runs."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("scale", ["smoke", "cpu", "paper"])
def test_every_rule_states_memory_time_and_gpus(scale, tmp_path):
    command = [sys.executable, Path(__file__).with_name("list_jobs.py"), REPOSITORY / "Snakefile"]
    command += [f"scale={scale}", "device=auto"]
    jobs = json.loads(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout)
    for job in jobs:
        asked = job["resources"]
        assert asked["mem_mb"] > 0 and asked["runtime"] > 0, job["rule"]
        loads_a_model = Path(job["environment"]).name == "train.yaml"
        assert asked["gpu"] == loads_a_model, f"{job['rule']}: on a GPU one job that loads a model runs at a time"


def test_the_slurm_profile_asks_for_no_more_cores_than_a_trainer_needs():
    # Any node can hold that; more than a node has keeps a job in the queue for ever.
    profile = yaml.safe_load((REPOSITORY / "profiles/slurm/profile.yaml").read_text(encoding="utf-8"))
    files = [REPOSITORY / "config.yaml", *(REPOSITORY / "workflow/scales").glob("*.yaml")]
    layers = [yaml.safe_load(file.read_text(encoding="utf-8")) or {} for file in files]
    threads = [layer.get(part, {}).get("threads", 1) for layer in layers for part in ("pretrain", "components", "runs")]
    assert profile["cores"] == max(threads)


def commands(section: str) -> list[str]:
    """The `snakemake` commands of a section of docs/running.md."""
    text = (REPOSITORY / "docs/running.md").read_text(encoding="utf-8")
    text = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?:^|`)(snakemake [^#`\n]*--[^#`\n]*)", text, re.M)
    return [command.strip() for command in found if "--unlock" not in command]


@pytest.mark.parametrize("command", commands("On a cluster"))
def test_commands_of_the_guide_make_a_plan(checkout, command):
    arguments = shlex.split(command)[1:]
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", *arguments], cwd=checkout.folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "This was a dry-run" in result.stdout + result.stderr
