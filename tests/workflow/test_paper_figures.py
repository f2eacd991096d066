"""Every figure and table of the paper has a target of its name; `paper_figures` makes those of other runs too."""

import zipfile

import pandas as pd
import pytest
import yaml

# The paper's figures that are of runs of their own, by the target that makes them.
OF_OTHER_RUNS = {
    "gpt": ("fig11_gpt_loss", "fig12_gpt_attention"),
    "sweeps": ("fig13_width", "fig14_depth", "fig15_heads"),
    "mixture": ("fig16_mixture",),
    "larger": ("fig17_larger",),
    "gaussian": ("fig18_gaussian",),
}
OF_THE_PRETRAINED_MODEL = (
    "fig02_loss",
    "fig03_nuclear_norm",
    "fig04_attention",
    "fig05_masked_attention",
    "fig06_probes",
    "fig07_embeddings",
    "fig08_components",
    "fig09_token_progress",
    "fig10_position_progress",
    "fig19_out_of_distribution",
    "fig21_singular_vector",
    "fig22_attention_progress",
    "table1_token_intervention",
    "table2_full_rank",
    "table3_regularised",
)
FIGURES = (*OF_THE_PRETRAINED_MODEL, *(figure for figures in OF_OTHER_RUNS.values() for figure in figures))


def dry_run(checkout, *targets):
    result = checkout.snakemake("-n", "--config", "scale=smoke", "--", *targets)
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def test_paper_figures_makes_every_figure(checkout):
    plan = dry_run(checkout, "paper_figures")
    assert [figure for figure in FIGURES if f"Drawing {figure}\n" not in plan] == []


def test_every_figure_is_a_target(checkout):
    plan = dry_run(checkout, *FIGURES)
    assert [figure for figure in FIGURES if f"Drawing {figure}\n" not in plan] == []


@pytest.mark.parametrize("target", OF_OTHER_RUNS)
def test_a_target_makes_its_figures_and_needs_no_pretrained_model(checkout, target):
    plan = dry_run(checkout, target)
    made = {figure for figure in FIGURES if f"Drawing {figure}" in plan}
    assert made == set(OF_OTHER_RUNS[target]) and "Pretraining" not in plan


def test_the_default_run_trains_nothing_else(checkout):
    plan = dry_run(checkout, "all")
    assert "Pretraining" in plan and "smoke/runs/" not in plan and "smoke/gpt/" not in plan


@pytest.mark.slow
def test_paper_figures_completes_on_top_of_the_default_run(smoke_run):
    result = smoke_run.smoke("paper_figures")
    assert result.returncode == 0, result.stdout[-5000:]
    results = smoke_run.folder / "results" / "smoke"
    for figures in OF_OTHER_RUNS.values():
        for figure in figures:
            assert (results / f"figures/{figure}.png").read_bytes().startswith(b"\x89PNG")
            assert len(pd.read_csv(results / f"figures/{figure}.csv")) > 0
    claims = pd.read_csv(results / "claims_of_runs.csv")
    assert set(claims["claim"]) == {12} and set(claims["verdict"]) <= {"held", "not held", "not decided"}
    # The run that changes nothing but its length is the beginning of the main run: it is read off it.
    main = (results / "pretrain/seed0/training.csv").read_text(encoding="utf-8").splitlines()
    model = yaml.safe_load((results / "config.yaml").read_text(encoding="utf-8"))["model"]
    unchanged = "width{hidden_size}_depth{num_hidden_layers}_heads{num_attention_heads}".format(**model)
    same = (results / f"runs/{unchanged}/seed0/training.csv").read_text(encoding="utf-8").splitlines()
    assert len(same) > 2 and same == main[: len(same)]
    # The report has these figures too, once they are there.
    assert smoke_run.snakemake("--report", "all.zip").returncode == 0
    with zipfile.ZipFile(smoke_run.folder / "all.zip") as archive:
        names = "\n".join(archive.namelist())
    assert [figure for figure in FIGURES if f"{figure}.png" not in names] == []
