"""What each result of a configuration is of: which values of the configuration it depends on, and which not."""

from pathlib import Path

import pytest
from configured import CATALOGUE, CONFIG, SMOKE, WORKFLOW, changed, smoke_results

from abrupt.config.results import Results, is_current
from abrupt.config.settings import layered, merged
from abrupt.storage.identity import canonical_json, digest, weights_digest
from abrupt.storage.records import about_result, circumstances, write_records

RESULTS = smoke_results()
LAST = SMOKE["pretrain"]["steps"]


def runs(results):
    """Path of the curve -> digest of the identity of each training run."""
    return {curve: digest(identity) for curve, identity in results.training_runs.items()}


def differing(results):
    """The files, without the folder, that are of something else than at the smoke scale."""
    paths = RESULTS.digests.keys() | results.digests.keys()
    found = {path for path in paths if RESULTS.digests.get(path) != results.digests.get(path)}
    return {path.removeprefix("results/smoke/") for path in found}


def test_every_result_has_an_identity_and_a_digest():
    assert RESULTS.identities.keys() == RESULTS.digests.keys() >= RESULTS.training_runs.keys()


@pytest.mark.parametrize(
    "given",
    [
        {"pretrain": {"learning_rate": CONFIG["pretrain"]["learning_rate"]}, "task": {"factor_scale": 1}},
        {"task": dict(reversed(CONFIG["task"].items()))},
        {"task": {"rank": 1.0, "max_value": 10.0}, "pretrain": {"batch_size": "64.0"}},
        {"task": {"factor_scale": 1.0}, "analyses": {"completion": {"shifts": {"rank": [1.0, 2.0, 3.0, 4.0]}}}},
    ],
    ids=["restated defaults", "another order", "whole numbers with a point", "in lists too"],
)
def test_the_same_configuration_in_other_words_gives_the_same_results(given):
    # Of the cpu scale, which is all of config.yaml.
    config, changes, _ = layered(WORKFLOW, [], given, [], False)
    assert Results(config, CATALOGUE).digests == Results(layered(WORKFLOW, [], {}, [], False)[0], CATALOGUE).digests
    assert changes == {}


def test_parameter_of_a_rule_is_the_same_text_in_any_order():
    config = merged(CONFIG, {**SMOKE, "scale": "smoke", "name": "smoke"})
    other = Results(dict(reversed(changed(config, task=dict(reversed(config["task"].items()))).items())), CATALOGUE)
    for path in RESULTS.identities:
        assert other.identity_text([path]) == RESULTS.identity_text([path])


@pytest.mark.parametrize(
    "values",
    [
        {"device": "auto"},
        {"conda_pytorch": "cuda"},
        {"allow_slow": True},
        {"accept_code": "proved"},
        {"pretrain__save_every": 7},
        {"pretrain__threads": 1, "components__threads": 2, "runs__threads": 2, "gpt__pretrain__threads": 2},
        {"analyses__baselines__threads": 1},
        {"name": "another"},
    ],
    ids=lambda values: " ".join(values),
)
def test_how_and_where_it_is_run_is_no_part_of_any_result_but_the_claims_page(values):
    def by_path(results):  # within the folder; the page of claims names it
        found = {path.removeprefix(f"{results.folder}/"): value for path, value in results.digests.items()}
        return {path: value for path, value in found.items() if not path.startswith("claims")}

    assert by_path(smoke_results(**values)) == by_path(RESULTS)


@pytest.mark.parametrize(
    "values",
    [
        {"pretrain__checkpoint_steps": [*SMOKE["pretrain"]["checkpoint_steps"], 75]},
        {"attention__steps": [LAST]},
        {"runs__sweeps__steps": 100, "gpt__pretrain__steps": 100, "gpt__pretrain__checkpoint_steps": [0, 100]},
        {"components__steps": 100},
        {"seeds": [0, 1]},
    ],
    ids=lambda values: " ".join(values),
)
def test_checkpoints_and_length_are_no_part_of_a_training_run(values):
    other = runs(smoke_results(**values))
    assert runs(RESULTS).items() <= other.items()


def test_length_of_pretraining_is_part_of_what_starts_from_its_end_alone():
    longer = smoke_results(
        pretrain__steps=LAST + 1000,
        pretrain__checkpoint_steps=[*SMOKE["pretrain"]["checkpoint_steps"], LAST + 1000],
    )
    before, after = runs(RESULTS), runs(longer)
    assert {curve.split("/")[2] for curve in before if before[curve] != after[curve]} == {"components"}
    kept = [f"results/smoke/pretrain/seed0/step{step}.safetensors" for step in SMOKE["pretrain"]["checkpoint_steps"]]
    assert all(longer.digests[path] == RESULTS.digests[path] for path in kept)


def test_one_more_checkpoint_changes_no_other_file():
    steps = [*SMOKE["pretrain"]["checkpoint_steps"], 75]
    assert differing(smoke_results(pretrain__checkpoint_steps=steps)) == {"pretrain/seed0/step75.safetensors"}


def figures_of(*sources):
    """The files of all figures that read one of these."""
    figures = [
        figure
        for figure, about in CATALOGUE.items()
        if {source.split()[-1] for source in about["inputs"].values()} & set(sources)
    ]
    return {f"figures/{figure}.{suffix}" for figure in figures for suffix in ("pdf", "png", "csv")}


def claims(name="claims"):
    return {f"{name}.{suffix}" for suffix in ("csv", "md", "html")}


@pytest.mark.parametrize(
    ("values", "files"),
    [
        ({"analyses__probes__matrices": 3000}, {"analyses/probes/seed0.csv"} | figures_of("probes") | claims()),
        (
            {"analyses__token_intervention__values": [0.5]},
            {"analyses/token_intervention/seed0.csv"} | figures_of("token_intervention") | claims(),
        ),
        (
            {"analyses__baselines__regularisation": [0.1]},
            {"analyses/baselines/seed0.csv"} | figures_of("baselines") | claims(),
        ),
        (
            {"runs__gaussian__scale": 0.25},
            {
                "runs/gaussian/seed0/training.csv",
                f"runs/gaussian/seed0/step{SMOKE['runs']['gaussian']['steps']}.safetensors",
            }
            | figures_of("gaussian")
            | claims("claims_of_runs"),
        ),
    ],
    ids=["an analysis", "an analysis by its values", "the baselines", "a run of its own"],
)
def test_a_changed_knob_changes_what_depends_on_it_and_nothing_else(values, files):
    assert differing(smoke_results(**values)) == files


def test_a_changed_task_changes_every_result_but_those_of_tasks_of_their_own():
    same = RESULTS.digests.keys() - {f"results/smoke/{path}" for path in differing(smoke_results(task__decimals=1))}
    assert {Path(path).parts[2] for path in same} <= {"gpt", "figures"}


def test_a_changed_learning_rate_changes_every_training_run():
    before, after = runs(RESULTS), runs(smoke_results(pretrain__learning_rate=0.002))
    assert all(before[curve] != after[curve] for curve in before)


def test_a_component_run_starts_from_the_weights_at_the_end_of_pretraining():
    pretraining = RESULTS.training_runs["results/smoke/pretrain/seed0/training.csv"]
    component = RESULTS.training_runs["results/smoke/components/mlp/seed0/training.csv"]
    assert component["pretraining"] == pretraining
    assert component["inputs"] == {"weights": [weights_digest(pretraining, LAST)]}


def test_two_configurations_share_the_runs_that_they_both_ask_for():
    def sweeps(results):
        return {Path(curve).parts[3]: value for curve, value in runs(results).items() if "/runs/width" in curve}

    ratio = RESULTS.config["model"]["intermediate_size"] // RESULTS.config["model"]["hidden_size"]
    narrow = {"model__hidden_size": 32, "model__intermediate_size": 32 * ratio}
    here = sweeps(smoke_results(runs__sweeps__width=[32, 64], runs__sweeps__depth=[3], runs__sweeps__heads=[4]))
    there = sweeps(
        smoke_results(**narrow, runs__sweeps__width=[32, 128], runs__sweeps__depth=[3], runs__sweeps__heads=[4])
    )
    assert here.keys() & there.keys() == {"width32_depth3_heads4"}
    assert here["width32_depth3_heads4"] == there["width32_depth3_heads4"]
    assert here["width64_depth3_heads4"] == runs(smoke_results())["results/smoke/pretrain/seed0/training.csv"]


def test_a_job_whose_outputs_differ_has_the_identity_of_each_in_its_parameter():
    outputs = {name: f"results/smoke/analyses/{name}/seed0.csv" for name in ("token_embeddings", "position_embeddings")}
    expected = canonical_json({name: RESULTS.identities[path] for name, path in outputs.items()})
    assert RESULTS.identities_text(outputs) == expected


def test_a_file_is_current_if_it_says_so_and_is_unchanged(tmp_path):
    path = tmp_path / "seed0.csv"
    identity = RESULTS.identities["results/smoke/analyses/probes/seed0.csv"]
    assert not is_current(path, digest(identity))
    path.write_text("step\n")
    write_records([path], about_result(identity, circumstances("cpu", 1)))
    assert is_current(path, digest(identity)) and not is_current(path, "0" * 16)
    path.write_text("step\n1\n")
    assert not is_current(path, digest(identity))
