"""Bad input ends with one line that names the key or file and the remedy, before any job."""

import re

import pytest

CONFIGS = {
    "unknown key": (["pretrain={lrr: 1}"], "config: pretrain: .*'lrr' was unexpected.*learning_rate"),
    "number that YAML reads as text": (["pretrain={learning_rate: 1e-4}"], "pretrain.learning_rate: .*write 0.0001"),
    "rank above the matrix": (["task={rank: 8}"], r"task.rank 8 exceeds min\(rows, columns\) = 7: lower it"),
    "heads do not divide the width": (
        ["model={num_attention_heads: 5}"],
        "model.hidden_size 64 .*num_attention_heads 5",
    ),
    "probability of one": (["task={mask_probability: 1}"], "task.mask_probability: 1 .* maximum of 1"),
    "checkpoint beyond the run": (
        ["pretrain={steps: 40000}"],
        "pretrain.checkpoint_steps: 50000 is beyond .*40000: remove",
    ),
    "checkpoints without the last step": (
        ["pretrain={checkpoint_steps: [0, 50]}"],
        r"pretrain.checkpoint_steps must include 50000 .*: add it",
    ),
    "attention step without a checkpoint": (
        ["attention={steps: [7, 50000]}"],
        "attention.steps: 7 is not in pretrain.checkpoint",
    ),
    "attention without the last step": (
        ["attention={steps: [0]}"],
        r"attention.steps must include pretrain.steps \(50000\)",
    ),
    "duplicate seeds": (["seeds=[1, 1]"], "config: seeds: .*non-unique"),
    "unknown component": (["components={names: [value]}"], r"components.names\[0\]: 'value' is not one of"),
    "unknown scale": (["scale=huge"], "config: scale: 'huge' is not one of smoke, cpu, paper"),
    "not a number": (["pretrain={learning_rate: .nan}"], "pretrain.learning_rate nan is not a finite number"),
    "section that is a number": (["task=5"], "config: task: 5 is not of type 'object'"),
    "too few positions": (
        ["model={max_position_embeddings: 48}"],
        "max_position_embeddings 48 is below .*49: raise it",
    ),
}


@pytest.mark.parametrize(("settings", "line"), CONFIGS.values(), ids=CONFIGS)
def test_bad_config_is_one_line_before_any_job(checkout, settings, line):
    result = checkout.snakemake("--config", *settings)
    assert result.returncode != 0
    errors = [text for text in result.stdout.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(line, errors[0])
    assert "Traceback" not in result.stdout and not (checkout.folder / "results").exists()


def test_paper_scale_on_a_cpu_says_the_days_and_stops(checkout):
    result = checkout.snakemake(
        "--config", "scale=paper", "device=cpu", "--", "results/paper/pretrain/seed0/training.csv"
    )
    assert result.returncode != 0
    assert re.search(r"error: this run would take about [\d.]+ days on this CPU .*allow_slow: true", result.stdout)


def test_cuda_with_the_conda_environment_for_cpus_is_one_line(checkout):
    result = checkout.snakemake("--sdm", "conda", "--config", "device=cuda")
    assert result.returncode != 0
    assert result.stdout.splitlines()[-1] == (
        "error: config: device is cuda, but --sdm conda installs PyTorch for CPUs: set conda_pytorch: cuda"
    )


def test_cuda_without_a_gpu_is_one_line(checkout):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    result = checkout.snakemake(
        "--config", "scale=smoke", "device=cuda", "--", "results/smoke/pretrain/seed0/training.csv"
    )
    assert "error: config: device is cuda, but PyTorch finds no GPU here: set device: cpu or auto" in result.stdout
