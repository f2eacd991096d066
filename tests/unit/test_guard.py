"""What the guard of trained runs says, and the commands that it prints."""

import errno
import os
import shlex
from pathlib import Path

import pytest
import torch
from configured import smoke_results

from abrupt.config.guard import command, different_runs, notes, refusal
from abrupt.errors import UnreadableFileError
from abrupt.storage.checkpoints import write_tensors
from abrupt.storage.records import about_result, circumstances, write_records
from abrupt.training.resuming import Run

PRETRAIN = "results/smoke/pretrain/seed0/training.csv"
STEPS, EARLY = 400, (0, 100, 400)
VALUES = {
    "pretrain__steps": STEPS,
    "pretrain__checkpoint_steps": list(EARLY),
    "attention__steps": [STEPS],
    "analyses__steps": [STEPS],
    "analyses__interventions__pre_shift_step": 100,
    "components__names": ["mlp", "attention"],
    "runs__sweeps__steps": STEPS,
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))


def results(**values):
    return smoke_results(**{**VALUES, **values})


def about(identity, code=None):
    """What is said of a run; `code` has other hashes of some definitions, as if they had been edited."""
    said = about_result(identity, circumstances("cpu", 1))
    if code is None:
        return said
    identity = {**identity, "code": {**identity["code"], "digest": "0" * 16}}
    return {**said, "identity": identity, "definitions": {**said["definitions"], **code}}


def publish(made, curve=PRETRAIN, code=None, steps=STEPS):
    """Put a curve on the disk as if the run that `made` asks for had been trained, by other `code` if given."""
    Path(curve).parent.mkdir(parents=True, exist_ok=True)
    Path(curve).write_text("step\n")
    write_records([curve], {**about(made.training_runs[curve], code), "steps": steps})


def store(made, curve=PRETRAIN, code=None, step=STEPS, checkpoints=EARLY):
    """Put a run into the store. Returns its entry."""
    run = Run("results/.store", about(made.training_runs[curve], code))
    for checkpoint in checkpoints:
        run.write_checkpoint({"a": torch.zeros(1)}, checkpoint)
    write_tensors(run.saves.last, {"a": torch.zeros(1)}, {**run.about, "step": step})
    run.describe(curve)
    return run.entry


EDITED = {"abrupt.training.loop.Trainer": "0"}


def test_nothing_is_said_of_what_is_not_there_or_as_asked_for():
    assert different_runs(results()) == []
    publish(results())
    assert different_runs(results()) == []


def test_length_is_not_another_run():
    publish(results(), steps=200)
    assert different_runs(results()) == []


def test_run_of_another_configuration_is_named_with_both_values_and_what_it_took():
    publish(results())
    benchmark = Path("results/smoke/benchmarks/pretrain/seed0.tsv")
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text("s\th:m:s\n1000.0\t0:16:40\n1160.0\t0:19:20\n")
    (run,) = different_runs(results(pretrain__learning_rate=0.002))
    assert str(run) == ("results/smoke/pretrain/seed0: pretrain.learning_rate: 0.001 -> 0.002 (400 steps, 36 minutes)")
    assert not run.code_alone


def test_weights_without_a_curve_are_guarded_too():
    weights = Path(PRETRAIN).with_name("step100.safetensors")
    write_tensors(weights, {"a": torch.zeros(1)}, {**about(results().training_runs[PRETRAIN]), "step": 100})
    (run,) = different_runs(results(pretrain__learning_rate=0.002))
    assert "(100 steps)" in str(run)


def test_run_by_other_code_is_named_by_its_function():
    publish(results(), code=EDITED)
    store(results(), code=EDITED)
    (run,) = different_runs(results())
    assert str(run) == "results/smoke/pretrain/seed0: code of abrupt.training.loop.Trainer (400 steps)"
    assert run.code_alone


@pytest.mark.parametrize("kept", [{"step": 300}, {"checkpoints": (0, 400)}], ids=["too short", "a checkpoint missing"])
def test_run_by_other_code_that_the_store_does_not_have_cannot_be_accepted(kept):
    publish(results(), code=EDITED)
    store(results(), code=EDITED, **kept)
    (run,) = different_runs(results())
    assert "cannot be accepted" in str(run) and not run.code_alone


def test_component_run_from_pretraining_by_other_code_differs_in_code_alone():
    made, curve = results(), "results/smoke/components/mlp/seed0/training.csv"
    identity = made.training_runs[curve]
    old = {**identity["pretraining"], "code": {**identity["code"], "digest": "0" * 16}}
    made.training_runs[curve] = {**identity, "pretraining": old, "inputs": {"weights": ["0" * 16]}}
    publish(made, curve)
    store(made, curve, checkpoints=[made.lengths[curve]], step=made.lengths[curve])
    (run,) = different_runs(results())
    assert "code of the run that it starts from" in str(run) and run.code_alone


def test_component_run_from_another_step_of_pretraining_is_another_configuration():
    curve = "results/smoke/components/mlp/seed0/training.csv"
    publish(results(), curve)
    (run,) = different_runs(results(pretrain__steps=800, pretrain__checkpoint_steps=[*EARLY, 800]))
    assert "pretraining_steps: 400 -> 800" in str(run) and not run.code_alone


def test_file_that_does_not_say_what_it_is_of_is_guarded():
    Path(PRETRAIN).parent.mkdir(parents=True)
    Path(PRETRAIN).write_text("step\n")
    (run,) = different_runs(results())
    assert "training.csv does not say what it is of" in str(run) and not run.code_alone


def test_truncated_weights_stop_nothing():
    publish(results())
    Path(PRETRAIN).with_name("step100.safetensors").write_bytes(b"1234567890")
    assert different_runs(results()) == []


def test_file_that_cannot_be_opened_is_one_line(monkeypatch):
    publish(results())

    def refuse(path, **options):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UnreadableFileError, match="training.csv: cannot be opened") as error:
        different_runs(results())
    assert "\n" not in str(error.value)


def test_refusal_has_a_line_for_each_run_and_the_ways_on():
    for curve in (PRETRAIN, "results/smoke/components/mlp/seed0/training.csv"):
        publish(results(), curve)
    wanted = results(pretrain__learning_rate=0.002)
    said = refusal(different_runs(wanted), wanted, ["--cores", "2", "--config", "pretrain={learning_rate: 0.002}"])
    lines = said.splitlines()
    assert lines[0].startswith("results/smoke holds runs that were trained otherwise than this configuration asks for")
    assert lines[1].startswith("  results/smoke/pretrain/seed0: pretrain.learning_rate: 0.001 -> 0.002")
    assert lines[2].startswith("  results/smoke/components/mlp/seed0: ")
    again = "--cores 2 --config{} 'pretrain={{learning_rate: 0.002}}'"
    assert lines[3:] == [
        "Nothing was changed. The ways on:",
        f"  keep both:   snakemake {again.format(' name=smoke-learning_rate0.002')}",
        f"  train anew:  mv results/smoke results/smoke.1 && snakemake {again.format('')}",
    ]


def test_refusal_of_other_code_offers_to_accept_it():
    publish(results(), code=EDITED)
    store(results(), code=EDITED)
    said = refusal(different_runs(results()), results(), ["fig02_loss", "--cores", "2"])
    assert "trained by other code than" in said
    for ways in ("name=smoke-new", "accept_code=proved", "accept_code=unproven"):
        assert f"snakemake fig02_loss --cores 2 --config {ways}" in said


def test_results_are_set_aside_under_a_name_that_is_free():
    publish(results())
    Path("results/smoke.1").mkdir()
    wanted = results(pretrain__learning_rate=0.002)
    assert "mv results/smoke results/smoke.2 && snakemake" in refusal(different_runs(wanted), wanted, [])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "snakemake --config name=a"),
        (["--cores", "2"], "snakemake --cores 2 --config name=a"),
        (["fig02_loss", "--cores", "2"], "snakemake fig02_loss --cores 2 --config name=a"),
        (["--cores", "2", "--", "fig02_loss"], "snakemake --cores 2 --config name=a -- fig02_loss"),
        (["--config", "scale=smoke", "-n"], "snakemake --config name=a scale=smoke -n"),
        (["-C", "scale=smoke", "-n"], "snakemake -C name=a scale=smoke -n"),
        (["--config", "seeds=[1]", "--config", "b=1"], "snakemake --config 'seeds=[1]' --config name=a b=1"),
        (["--config", "scale=smoke", "name=old"], "snakemake --config name=a scale=smoke"),
        (["--config", "task={rank: 2}"], "snakemake --config name=a 'task={rank: 2}'"),
    ],
)
def test_printed_command_is_the_one_given_with_a_value_more(arguments, expected):
    assert command(arguments, name="a") == expected
    assert shlex.split(command(arguments)) == ["snakemake", *arguments]


def test_unfinished_progress_of_another_configuration_is_named():
    entry = store(results(), step=120, checkpoints=(0, 100))
    (note,) = notes(results(pretrain__learning_rate=0.002))
    assert note == (
        "results/smoke/pretrain/seed0: progress to step 120 stays in "
        f"{entry.folder} (pretrain.learning_rate: 0.001 -> 0.002)"
    )


def test_progress_of_the_run_that_is_asked_for_needs_no_note():
    store(results(), step=120, checkpoints=(0, 100))
    assert list(notes(results())) == []


def test_checkpoints_that_must_be_trained_for_again_are_named_with_their_cost():
    store(results(), checkpoints=(0, 400))
    publish(results())
    wanted = results(pretrain__checkpoint_steps=[0, 50, 100, 400])
    (note,) = notes(wanted)
    assert "the weights at steps 50, 100 are not in the store: training goes over its first 100 steps once more" in note


def test_checkpoint_among_the_results_is_not_missing():
    store(results(), checkpoints=(0, 400))
    publish(results())
    Path(PRETRAIN).with_name("step100.safetensors").write_bytes(b"")
    assert list(notes(results())) == []
