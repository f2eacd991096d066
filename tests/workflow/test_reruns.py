"""What an edit or a changed knob schedules: exactly what depends on it."""

import re
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

CLAIMS = {"claims", "figure_guide"}
OF_TOKENS = {"table1_token_intervention", "table2_full_rank"}
OF_COMPLETION = {"fig03_nuclear_norm", "table3_regularised", "fig19_out_of_distribution"}
CATALOGUE = yaml.safe_load((Path(__file__).parents[2] / "workflow/figures.yaml").read_text())
FIGURES = {name for name, about in CATALOGUE.items() if about["target"] == "figures"}
OF_MAPS = {
    "task",
    "prediction",
    "fig04_attention",
    "fig05_masked_attention",
    "fig22_attention_progress",
    "ranked_heads",
    "head_specialisation",
    "activation_patching",
}
OF_INTERVENTIONS = {"head_ablation", "activation_patching", "component_switching"}
MEASUREMENTS = {
    f"measure_{job}"
    for job in ("completion", "token_intervention", "interventions", "probes", "embeddings", "permuted_positions")
}
AFTER_TRAINING = {"component_run", "attention", "head_scores"} | MEASUREMENTS | CLAIMS | FIGURES


def scheduled(run, *config: str) -> set[str]:
    """Rules that a dry run would execute, without the target rule."""
    result = run.snakemake("-n", "--config", "scale=smoke", *config)
    assert result.returncode == 0, result.stdout[-3000:]
    stats = re.search(r"^job +count\n[- ]+\n(.*?)^total", result.stdout, re.M | re.S)
    return {line.split()[0] for line in stats[1].splitlines()} - {"all"} if stats else set()


@pytest.fixture
def edited(smoke_run):
    """Append a comment to a file of the run's copy; undone afterwards."""
    originals = {}

    def edit(path):
        file = smoke_run.folder / path
        originals[file] = file.read_text()
        file.write_text(originals[file] + "# edited\n")
        return smoke_run

    yield edit
    for file, text in originals.items():
        file.write_text(text)


def test_nothing_is_scheduled_after_a_complete_run(smoke_run):
    assert scheduled(smoke_run) == set()


@pytest.mark.parametrize(
    ("path", "rules"),
    [
        ("workflow/abrupt/figures/fig02_loss.py", {"fig02_loss"}),
        ("workflow/abrupt/figures/style.py", {"figure_guide"} | FIGURES),
        ("workflow/abrupt/claims/loss.py", CLAIMS),
        ("workflow/abrupt/classical.py", {"baselines"} | CLAIMS | OF_COMPLETION),
        ("workflow/abrupt/analyses/token_intervention.py", {"measure_token_intervention"} | CLAIMS | OF_TOKENS),
        ("workflow/abrupt/training.py", {"pretrain"} | AFTER_TRAINING),
        ("workflow/abrupt/task.py", {"pretrain", "baselines"} | AFTER_TRAINING),
    ],
)
def test_an_edited_library_file_reruns_its_users_alone(edited, path, rules):
    assert scheduled(edited(path)) == rules


@pytest.mark.parametrize(
    ("knob", "rules"),
    [
        (
            "attention={matrices: 32}",
            {"attention", "head_scores", "measure_interventions"} | OF_INTERVENTIONS | CLAIMS | OF_MAPS,
        ),
        ("components={steps: 1525}", {"component_run", "fig08_components"} | CLAIMS),
        ("analyses={token_intervention: {values: [0.1]}}", {"measure_token_intervention"} | CLAIMS | OF_TOKENS),
        ("analyses={baselines: {regularisation: [0.1]}}", {"baselines"} | CLAIMS | OF_COMPLETION),
        (
            "analyses={matrices: 64}",
            {"measure_completion", "measure_token_intervention", "baselines"} | CLAIMS | OF_TOKENS | OF_COMPLETION,
        ),
        ("analyses={baselines: {threads: 2}}", set()),
        ("analyses={interventions: {matrices: 32}}", {"measure_interventions", "figure_guide"} | OF_INTERVENTIONS),
        ("pretrain={learning_rate: 0.003}", {"pretrain"} | AFTER_TRAINING),
        ("task={mask_probability: 0.4}", {"pretrain", "baselines"} | AFTER_TRAINING),
        ("pretrain={save_every: 7}", set()),
        ("allow_slow=true", set()),
    ],
)
def test_a_changed_knob_reruns_its_dependants_alone(smoke_run, knob, rules):
    assert scheduled(smoke_run, knob) == rules
