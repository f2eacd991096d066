"""What an edit or a changed knob schedules: exactly what depends on it."""

import re

import pytest

pytestmark = pytest.mark.slow

FIGURES = {"task", "fig02_loss", "prediction", "fig04_attention", "ranked_heads", "fig08_components"}
AFTER_TRAINING = {"component_run", "attention", "head_scores", "model_analysis", "claims"} | FIGURES


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
        ("workflow/abrupt/figures/style.py", FIGURES),
        ("workflow/abrupt/claims.py", {"claims"}),
        ("workflow/abrupt/analyses/nuclear_norm.py", {"nuclear_norm", "claims"}),
        ("workflow/abrupt/analyses/token_intervention.py", {"model_analysis", "claims"}),
        ("workflow/abrupt/training.py", {"pretrain"} | AFTER_TRAINING),
        ("workflow/abrupt/task.py", {"pretrain", "nuclear_norm"} | AFTER_TRAINING),
    ],
)
def test_an_edited_library_file_reruns_its_users_alone(edited, path, rules):
    assert scheduled(edited(path)) == rules


@pytest.mark.parametrize(
    ("knob", "rules"),
    [
        (
            "attention={matrices: 32}",
            {"attention", "head_scores", "claims"} | FIGURES - {"fig02_loss", "fig08_components"},
        ),
        ("components={steps: 1525}", {"component_run", "claims", "fig08_components"}),
        ("analyses={token_intervention: {values: [0.1]}}", {"model_analysis", "claims"}),
        ("pretrain={learning_rate: 0.003}", {"pretrain"} | AFTER_TRAINING),
        ("task={mask_probability: 0.4}", {"pretrain", "nuclear_norm"} | AFTER_TRAINING),
        ("pretrain={save_every: 7}", set()),
        ("allow_slow=true", set()),
    ],
)
def test_a_changed_knob_reruns_its_dependants_alone(smoke_run, knob, rules):
    assert scheduled(smoke_run, knob) == rules
