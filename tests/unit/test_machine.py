"""What the driver makes of the machine it runs on."""

import os

import pytest

from abrupt.config.machine import memory_mb, reasons

GB = 10**9
INSTALLED_MB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6


@pytest.mark.parametrize(
    ("groups", "limits", "allowed"),
    [
        ("0::/a/b", {"memory.max": "max", "a/memory.max": f"{GB // 2}", "a/b/memory.max": "max"}, 500),
        ("4:memory:/docker/x\n0::/", {"memory/memory.limit_in_bytes": f"{GB // 4}"}, 250),
        ("4:memory:/x", {"memory/x/memory.limit_in_bytes": "9223372036854771712"}, INSTALLED_MB),
        ("0::/", {}, INSTALLED_MB),
    ],
    ids=["of a parent group", "version 1, of a container", "version 1, none", "no group"],
)
def test_memory_is_what_control_groups_allow(tmp_path, groups, limits, allowed):
    files = {f"sys/fs/cgroup/{name}": limit for name, limit in limits.items()}
    for file, content in {**files, "proc/self/cgroup": groups}.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(f"{content}\n", encoding="utf-8")
    assert memory_mb(tmp_path, {}) == allowed


@pytest.mark.parametrize(
    "environ", [{"SLURM_MEM_PER_NODE": "300"}, {"SLURM_MEM_PER_CPU": "150", "SLURM_CPUS_ON_NODE": "2"}]
)
def test_memory_is_what_a_slurm_allocation_has(tmp_path, environ):
    assert memory_mb(tmp_path, environ) == 300


def test_a_job_that_only_waits_its_turn_is_not_mentioned():
    listing = "1|/mine|rule_a|Priority\n2|/other|rule_a|PartitionConfig\n3|/mine|rule_b|PartitionTimeLimit\n"
    assert reasons(listing, "/mine") == [
        "SLURM job 3 (rule_b) does not start: PartitionTimeLimit; its partition allows less time: give a shorter "
        "runtime, or another partition. To cancel it: scancel 3"
    ]
