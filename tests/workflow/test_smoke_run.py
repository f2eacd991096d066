"""The whole workflow at smoke scale: from nothing to figures and claims."""

import json
import zipfile
from pathlib import Path

import h5py
import pandas as pd
import pytest
import yaml
from safetensors import safe_open

from abrupt.scores.drop import detect_drop
from abrupt.task import Task
from abrupt.training.objectives import COLUMNS, EVAL_COLUMNS

pytestmark = pytest.mark.slow

CATALOGUE = yaml.safe_load((Path(__file__).parents[2] / "workflow/figures.yaml").read_text())
FIGURES = [figure for figure, about in CATALOGUE.items() if about["target"] == "figures"]


@pytest.fixture(scope="module")
def results(smoke_run):
    return smoke_run.folder / "results" / "smoke"


@pytest.fixture(scope="module")
def config(results):
    return yaml.safe_load((results / "config.yaml").read_text())


def test_merged_config_is_beside_the_results(config):
    assert config["scale"] == "smoke"
    assert config["pretrain"]["batch_size"] == 64, "not from config.yaml"
    assert config["task"]["rows"] == 4, "not from workflow/scales/smoke.yaml"


def test_the_loss_drops_abruptly_and_not_before_its_onset(results, config):
    training = pd.read_csv(results / "pretrain/seed0/training.csv")
    plateau = Task(**config["task"]).entry_variance
    drop = detect_drop(training["step"], training["mse_masked"], plateau)
    assert drop.found and drop.abrupt, drop
    cut = training[training["step"] <= drop.onset]
    assert not detect_drop(cut["step"], cut["mse_masked"], plateau).found


def test_training_table_has_its_columns_and_no_wall_time(results, config):
    training = pd.read_csv(results / "pretrain/seed0/training.csv")
    assert tuple(training.columns) == ("step", *COLUMNS, *EVAL_COLUMNS)
    assert training["step"].iloc[-1] == config["pretrain"]["steps"]
    assert training["step"].is_monotonic_increasing


def test_each_checkpoint_says_which_run_made_it(results, config):
    for step in config["pretrain"]["checkpoint_steps"]:
        with safe_open(results / f"pretrain/seed0/step{step}.safetensors", framework="pt") as stream:
            about = json.loads(stream.metadata()["abrupt"])
        assert about["step"] == step and about["identity"]["task"] == config["task"]
        assert about["circumstances"]["threads"] == config["pretrain"]["threads"]


def test_component_runs_have_curves_of_their_own(results, config):
    curves = {
        name: pd.read_csv(results / f"components/{name}/seed0/training.csv")["mse_masked"].iloc[-1]
        for name in config["components"]["names"]
    }
    assert len(set(curves.values())) == len(curves)


def test_attention_files_describe_themselves(results, config):
    for step in config["attention"]["steps"]:
        with h5py.File(results / f"attention/seed0/step{step}.h5") as stream:
            assert (stream.attrs["seed"], stream.attrs["step"]) == (0, step)
            assert json.loads(stream.attrs["identity"])["task"] == config["task"]
            assert set(stream) == {"random", "masked_rows", "masked_columns"}
            maps = stream["random/attention_mean"]
            assert [axis.label for axis in maps.dims] == ["layer", "head", "query", "key"]
            assert maps.shape == (3, 4, 16, 16) and maps.dtype == "float32" and maps.compression == "gzip"
            assert abs(maps[()].sum(-1) - 1).max() < 1e-5


def test_every_figure_has_pdf_png_and_the_table_behind_it(results):
    for figure in FIGURES:
        assert (results / f"figures/{figure}.pdf").read_bytes().startswith(b"%PDF")
        assert (results / f"figures/{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert len(pd.read_csv(results / f"figures/{figure}.csv")) > 0


def test_every_claim_has_a_verdict_and_the_drop_was_found(results):
    claims = pd.read_csv(results / "claims.csv")
    assert list(claims.columns[:6]) == ["claim", "quantity", "measured", "criterion", "verdict", "evidence"]
    assert set(claims["claim"]) == set(range(1, 13))
    assert set(claims.loc[claims["claim"] == 1, "verdict"]) == {"held", "for comparison"}
    assert set(claims.loc[claims["claim"] == 7, "verdict"]) == {"not tested yet"}
    assert set(claims.loc[claims["claim"] == 12, "verdict"]) == {"tested by `snakemake paper_figures`"}


def test_logs_show_progress_and_benchmarks_the_time(results):
    log = (results / "logs/pretrain/seed0.log").read_text()
    assert "steps/s" in log and "ETA" in log
    assert float(pd.read_csv(results / "benchmarks/pretrain/seed0.tsv", sep="\t")["s"].iloc[0]) > 0


def test_report_has_every_figure_and_the_claims(smoke_run):
    # Without a configuration, as `make report` calls it: the one that made the results is taken.
    result = smoke_run.snakemake("--report", "report.zip")
    assert result.returncode == 0, result.stdout[-3000:]
    with zipfile.ZipFile(smoke_run.folder / "report.zip") as archive:
        names = "\n".join(archive.namelist())
    for name in (*(f"{figure}.png" for figure in FIGURES), "claims"):
        assert name in names
