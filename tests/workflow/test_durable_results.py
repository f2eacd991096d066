"""What users do to finished and half-done results: nothing that was trained is lost, and nothing wrong is judged.

Every case starts from a complete smoke run, in a copy of its own where it changes anything.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from abrupt.storage.records import read_record

pytestmark = pytest.mark.slow

CATALOGUE = yaml.safe_load((Path(__file__).parents[2] / "workflow/figures.yaml").read_text(encoding="utf-8"))
FIGURES = {name for name, about in CATALOGUE.items() if about["target"] == "figures"}
PRETRAINING = "results/smoke/pretrain/seed0"
SHORTER = (
    "pretrain={steps: 3000, checkpoint_steps: [0, 1000, 3000]}",
    "attention={steps: [0, 3000]}",
    "analyses={steps: [0, 3000]}",
)


def readers_of(*sources: str) -> set[str]:
    """The figures that read one of these."""
    return {
        figure
        for figure in FIGURES
        if {source.split()[-1] for source in CATALOGUE[figure]["inputs"].values()} & set(sources)
    }


COMPLETION = {"measure_completion", "baselines", "claims"} | readers_of("completion", "baselines")


@pytest.fixture
def copy(smoke_run, new_checkout):
    """A checkout of its own with the files of the complete run, links between them included."""
    checkout = new_checkout("copy")
    subprocess.run(
        ["cp", "-a", smoke_run.folder / "results", smoke_run.folder / ".snakemake", checkout.folder], check=True
    )
    return checkout


def planned(run, *arguments: str) -> str:
    """What a dry run prints. `arguments` are of the configuration up to a `--`, then others."""
    config, options = (arguments, ())
    if "--" in arguments:
        config, options = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    result = run.snakemake("-n", *options, "--config", "scale=smoke", *config)
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def scheduled(run, *arguments: str) -> set[str]:
    """Rules that a dry run would execute, without the target rule."""
    stats = re.search(r"^job +count\n[- ]+\n(.*?)^total", planned(run, *arguments), re.M | re.S)
    return {line.split()[0] for line in stats[1].splitlines()} - {"all"} if stats else set()


def edit(checkout, path: str, old: str, new: str) -> None:
    file = checkout.folder / "workflow" / path
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{path} has no {old!r}"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture
def edited(smoke_run):
    """A function that edits a file of the complete run's checkout, which is undone afterwards."""
    originals = {}

    def edit_and_remember(path, old, new):
        file = smoke_run.folder / "workflow" / path
        originals.setdefault(file, file.read_text(encoding="utf-8"))
        edit(smoke_run, path, old, new)
        return smoke_run

    yield edit_and_remember
    for file, text in originals.items():
        file.write_text(text, encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    """Every trained file below a results folder, by its path."""
    files = [*folder.rglob("*.safetensors"), *folder.rglob("training.csv")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# Nothing is scheduled.


SAME = (
    "pretrain={learning_rate: 0.001, threads: 2, save_every: 7, checkpoint_steps: [0, 100, 1000, 2500, 4000]}",
    "task={factor_scale: 1.0, rows: 4}",
    "device=auto",
    "components={threads: 2}",
    "analyses={baselines: {threads: 2}}",
    "allow_slow=true",
)


@pytest.mark.parametrize("config", [(), SAME], ids=["as it was", "defaults restated, 1.0 for 1, circumstances"])
def test_what_changes_no_result_schedules_nothing(smoke_run, config):
    assert scheduled(smoke_run, *config) == set()


def test_moved_lines_and_a_configuration_file_of_one_key_schedule_nothing(copy):
    text = (copy.folder / "config.yaml").read_text(encoding="utf-8")
    sections = re.split(r"(?m)^(?=\w+:)", text)
    (copy.folder / "config.yaml").write_text(sections[0] + "".join(reversed(sections[1:])), encoding="utf-8")
    (copy.folder / "mine.yaml").write_text("pretrain: {learning_rate: 0.001}\n", encoding="utf-8")
    assert scheduled(copy, "--", "--configfile", "mine.yaml") == set()


def test_comments_times_and_copies_of_the_code_schedule_nothing(copy):
    for path in copy.folder.joinpath("workflow").rglob("*.py"):
        path.write_text(f"# a comment\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    edit(copy, "abrupt/training/cost.py", "SLOW_DAYS = 0.5", "SLOW_DAYS = 0.25")
    assert scheduled(copy) == set()


@pytest.mark.parametrize("metadata", [True, False], ids=["with Snakemake's metadata", "without"])
def test_results_elsewhere_schedule_nothing_whatever_their_times(copy, new_checkout, metadata):
    fresh = new_checkout("fresh")
    (fresh.folder / "elsewhere").mkdir()
    shutil.move(copy.folder / "results", fresh.folder / "elsewhere/results")
    if metadata:
        shutil.move(copy.folder / ".snakemake", fresh.folder / "elsewhere/.snakemake")
    for number, path in enumerate(sorted((fresh.folder / "elsewhere/results").rglob("*"))):
        os.utime(path, (10**9 + number * 7919 % 1000,) * 2)
    assert scheduled(fresh, "--", "--directory", "elsewhere") == set()


# Exactly what depends on a change is scheduled.


KNOBS = {
    "attention={matrices: 32}": {"attention", "head_scores", "measure_interventions", "claims"}
    | readers_of("attention", "head_scores", "head_ablation", "activation_patching", "component_switching"),
    "components={steps: 1525}": {"component_run", "fig08_components", "claims"},
    "analyses={matrices: 64}": COMPLETION | {"measure_token_intervention"} | readers_of("token_intervention"),
}


@pytest.mark.parametrize(("knob", "rules"), KNOBS.items(), ids=KNOBS)
def test_a_changed_knob_reruns_its_dependants_alone_without_snakemakes_metadata(smoke_run, knob, rules):
    metadata, hidden = smoke_run.folder / ".snakemake", smoke_run.folder / ".hidden"
    metadata.rename(hidden)
    try:
        assert scheduled(smoke_run, knob) == rules
    finally:
        shutil.rmtree(metadata, ignore_errors=True)
        hidden.rename(metadata)


@pytest.mark.parametrize(
    ("path", "old", "new", "rules"),
    [
        ("abrupt/figures/fig02_loss.py", "import", "EDITED = 1\nimport", {"fig02_loss"}),
        ("abrupt/figures/style.py", '"lines.linewidth": 1.0', '"lines.linewidth": 1.1', FIGURES),
        ("abrupt/claims/heads.py", "AVOIDED = 0.5", "AVOIDED = 0.4", {"claims"}),
        (
            "abrupt/analyses/classical.py",
            "import numpy",
            "def solve():\n    return 1\n\n\nimport numpy",
            set(),
        ),
        (
            "abrupt/analyses/token_intervention.py",
            "import torch",
            "EDITED = 1\nimport torch",
            {"measure_token_intervention", "claims"} | readers_of("token_intervention"),
        ),
    ],
    ids=["figure", "style", "claim", "code that nothing calls", "analysis"],
)
def test_edited_code_reruns_exactly_its_users(edited, path, old, new, rules):
    assert scheduled(edited(path, old, new)) == rules


def test_a_deleted_checkpoint_and_an_edited_analysis_train_nothing(copy):
    (copy.folder / PRETRAINING / "step1000.safetensors").unlink()
    edit(copy, "abrupt/analyses/probes.py", "import torch", "EDITED = 1\nimport torch")
    # Snakemake makes again what reads a file that it has to put back.
    assert {"pretrain", "measure_probes"} | readers_of("probes") <= scheduled(copy)
    before = contents(copy.folder / "results/smoke")
    result = copy.smoke("results/smoke/analyses/probes/seed0.csv")
    assert result.returncode == 0, result.stdout[-3000:]
    log = (copy.folder / "results/smoke/logs/pretrain/seed0.log").read_text(encoding="utf-8")
    assert "nothing is trained" in log and "steps/s" not in log
    assert contents(copy.folder / "results/smoke").items() >= before.items()


# The guard.


GUARDED = {
    "a run": (),
    "a dry run": ("-n",),
    "touch": ("--touch",),
    "forcing a rule": ("-R", "pretrain"),
    "forcing everything": ("-F",),
    "one figure": ("--", "fig02_loss"),
}


@pytest.mark.parametrize("arguments", GUARDED.values(), ids=GUARDED)
def test_a_changed_training_knob_stops_before_anything_is_touched(smoke_run, arguments):
    before = contents(smoke_run.folder / "results")
    result = smoke_run.snakemake("--config", "scale=smoke", "pretrain={learning_rate: 0.002}", *arguments)
    assert result.returncode != 0
    said = result.stdout[result.stdout.index("error: ") :]
    assert said.startswith("error: results/smoke holds runs that were trained otherwise than this configuration")
    assert "  results/smoke/pretrain/seed0: pretrain.learning_rate: 0.001 -> 0.002 (4000 steps, " in said
    assert "  results/smoke/components/mlp/seed0: " in said
    assert "name=smoke-learning_rate0.002" in said and "mv results/smoke results/smoke.1 && snakemake" in said
    assert "accept_code" not in said and "Traceback" not in said
    assert contents(smoke_run.folder / "results") == before


def test_both_are_kept_under_a_name_and_the_old_one_stays_as_it_is(smoke_run):
    plan = planned(smoke_run, "pretrain={learning_rate: 0.002}", "name=1e-4")
    assert "results/1e-4/pretrain/seed0/training.csv" in plan and "results/smoke/pretrain" not in plan
    assert scheduled(smoke_run) == set()


@pytest.mark.parametrize("name", ["cpu", "reference", "benchmarks", "a/b", ".hidden"])
def test_an_unusable_name_is_one_line(checkout, name):
    result = checkout.snakemake("-n", "--config", "scale=smoke", f"name={name}")
    assert result.returncode != 0 and f"error: config: name: '{name}'" in result.stdout


def test_setting_results_aside_keeps_them_and_what_was_made_of_them(copy):
    os.rename(copy.folder / "results/smoke", copy.folder / "results/smoke.1")
    assert "pretrain" in scheduled(copy, "pretrain={learning_rate: 0.002}")
    # Back to the old configuration: the store has it, and no step is trained.
    result = copy.smoke(f"{PRETRAINING}/training.csv", "results/smoke/components/mlp/seed0/training.csv")
    assert result.returncode == 0, result.stdout[-3000:]
    assert contents(copy.folder / "results/smoke").items() <= contents(copy.folder / "results/smoke.1").items()
    assert "steps/s" not in (copy.folder / "results/smoke/logs/components/mlp/seed0.log").read_text(encoding="utf-8")


LOOP = ("abrupt/training/loop.py", "self.window += sums", "self.window += sums * 1")


def test_edited_training_code_is_named_and_can_be_accepted_when_proved(copy):
    edit(copy, *LOOP)
    result = copy.smoke()
    assert result.returncode != 0
    assert f"  {PRETRAINING}: code of abrupt.training.loop.Trainer (4000 steps, " in result.stdout
    assert "accept_code=proved" in result.stdout
    targets = (f"{PRETRAINING}/training.csv", "results/smoke/components/attention/seed0/training.csv")
    before = contents(copy.folder / "results/smoke")
    result = copy.snakemake("--config", "scale=smoke", "accept_code=proved", "--", *targets)
    assert result.returncode == 0, result.stdout[-3000:]
    for target in targets:
        assert read_record(copy.folder / target)["accepted"]["proof"].startswith("the first 200 steps")
        assert (copy.folder / target).read_bytes() == before[str(Path(target).relative_to("results/smoke"))]


def test_other_numbers_cannot_be_accepted_as_proved(copy):
    edit(copy, "abrupt/training/loop.py", "self.window += sums", "self.window += sums + 1")
    target = f"{PRETRAINING}/training.csv"
    result = copy.snakemake("--config", "scale=smoke", "accept_code=proved", "--", target)
    assert result.returncode != 0 and "the code gives other numbers now, from the row of step 25 on" in result.stdout
    # Snakemake has deleted the results by now; the run is in the store, and the guard still knows.
    result = copy.snakemake("-n", "--config", "scale=smoke", "--", target)
    assert result.returncode != 0 and f"{PRETRAINING}: code of abrupt.training.loop.Trainer" in result.stdout
    assert f" 4000 steps of {target}" not in copy.smoke("prune").stdout
    result = copy.snakemake("--config", "scale=smoke", "accept_code=unproven", "--", target)
    assert result.returncode == 0, result.stdout[-3000:]
    assert read_record(copy.folder / target)["accepted"]["proof"] == "unproven"


def test_a_job_whose_code_was_edited_after_it_was_scheduled_stops(copy):
    shutil.rmtree(copy.folder / "results/smoke/figures")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", "scale=smoke", "--", "figures"]
    process = subprocess.Popen(command, cwd=copy.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: list((copy.folder / "results/smoke/figures").glob("*.csv")), process)
    edit(copy, "abrupt/figures/style.py", '"lines.linewidth": 1.0', '"lines.linewidth": 1.1')
    output = process.communicate()[0]
    assert process.returncode != 0 and "the code was edited after Snakemake had been started" in output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [(("--unlock",), ""), (("--delete-all-output", "-n"), "Would delete"), (("--summary",), "output_file")],
    ids=["unlock", "delete", "summary"],
)
def test_commands_that_train_nothing_are_not_stopped(smoke_run, arguments, line):
    result = smoke_run.snakemake(*arguments, "--config", "scale=smoke", "pretrain={learning_rate: 0.002}")
    assert result.returncode == 0 and line in result.stdout, result.stdout[-2000:]


# The store.


def test_a_lost_curve_a_forced_rule_and_another_length_train_nothing(copy):
    before = contents(copy.folder / "results/smoke")
    shutil.rmtree(copy.folder / PRETRAINING)
    result = copy.snakemake("--config", "scale=smoke", "-R", "component_run", "--", "fig08_components")
    assert result.returncode == 0, result.stdout[-3000:]
    assert contents(copy.folder / "results/smoke") == before
    # Component runs start from the last weights, so those of a shorter run are others, under a name of their own.
    plan = planned(copy, "name=shorter", *SHORTER)
    assert "Pretraining" in plan and "once more" not in plan
    target = "results/shorter/pretrain/seed0/training.csv"
    result = copy.snakemake("--config", "scale=smoke", "name=shorter", *SHORTER, "--", target)
    assert result.returncode == 0, result.stdout[-3000:]
    logs = [path.read_text(encoding="utf-8") for path in copy.folder.glob("results/s*/logs/[pc]*/**/*.log")]
    assert logs and not [log for log in logs if "steps/s" in log]
    shorter = (copy.folder / target).read_text(encoding="utf-8").splitlines()
    assert len(shorter) == 121 and shorter == before["pretrain/seed0/training.csv"].decode().splitlines()[:121]


def test_a_checkpoint_that_was_never_kept_is_announced_with_its_cost(smoke_run):
    plan = planned(smoke_run, "pretrain={checkpoint_steps: [0, 100, 500, 1000, 1250, 1500, 2000, 2500, 3000, 4000]}")
    assert "the weights at steps 1250 are not in the store: training goes over its first 1250 steps once more" in plan


def test_prune_lists_and_then_removes_what_no_results_need(copy):
    os.rename(copy.folder / "results/smoke/components/mlp", copy.folder / "results/mlp-elsewhere")
    shutil.rmtree(copy.folder / "results/mlp-elsewhere")
    entries = {path.name for path in (copy.folder / "results/.store").glob("*-*")}
    listed = copy.smoke("prune")
    assert "would be removed" in listed.stdout and "1000 steps of results/smoke/components/mlp/seed0" in listed.stdout
    assert {path.name for path in (copy.folder / "results/.store").glob("*-*")} == entries
    removed = copy.snakemake("--config", "scale=smoke", "prune=remove", "--", "prune")
    assert removed.returncode == 0 and "MB in all" in removed.stdout
    assert len(list((copy.folder / "results/.store").glob("*-*"))) == len(entries) - 1


def test_touching_and_drawing_leave_the_store_alone(copy):
    entries = sorted(path.name for path in (copy.folder / "results/.store").glob("*-*/*"))
    shutil.rmtree(copy.folder / "results/smoke/figures")
    copy.snakemake("--touch", "--config", "scale=smoke", "--", "fig02_loss")
    assert copy.smoke("fig02_loss").returncode == 0
    assert sorted(path.name for path in (copy.folder / "results/.store").glob("*-*/*")) == entries


# Half-done work.


def wait_for(condition, process) -> None:
    while not condition():
        assert process.poll() is None, "the run ended before that"
        time.sleep(0.02)


SHORT = (
    "--config",
    "scale=smoke",
    "pretrain={steps: 600, checkpoint_steps: [0, 100, 600], save_every: 25}",
    "attention={steps: [0, 600]}",
    "analyses={steps: [0, 600], interventions: {pre_shift_step: 100}}",
)


@pytest.fixture
def interrupted(new_checkout):
    """A checkout whose pretraining was killed, with its driver, after a save."""
    checkout = new_checkout("interrupted")
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *SHORT, "--", f"{PRETRAINING}/training.csv"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=checkout.folder, start_new_session=True, **quiet)
    wait_for(lambda: list((checkout.folder / "results/.store").glob("*/last.safetensors")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert checkout.snakemake("--unlock").returncode == 0
    return checkout


def test_killed_driver_and_trainer_resume_over_an_edited_comment_to_the_same_bytes(interrupted, new_checkout):
    target = f"{PRETRAINING}/training.csv"
    edit(interrupted, "abrupt/training/loop.py", "import math", "# a comment\nimport math")
    result = interrupted.snakemake(*SHORT, "--", target)
    assert result.returncode == 0, result.stdout[-3000:]
    log = (interrupted.folder / "results/smoke/logs/pretrain/seed0.log").read_text(encoding="utf-8")
    assert "resuming after step" in log
    undisturbed = new_checkout("undisturbed")
    assert undisturbed.snakemake(*SHORT, "--", target).returncode == 0
    assert contents(interrupted.folder / "results/smoke") == contents(undisturbed.folder / "results/smoke")


def test_unfinished_progress_of_other_code_is_named(interrupted):
    edit(interrupted, *LOOP)
    result = interrupted.snakemake("-n", *SHORT, "--", f"{PRETRAINING}/training.csv")
    assert re.search(
        rf"{PRETRAINING}: progress to step \d+ stays in results/.store/\S+ \(code of abrupt.training.loop.Trainer\)",
        result.stdout,
    )


# What is not what it seems.


def test_a_table_copied_over_is_made_again_not_judged(copy):
    table = copy.folder / "results/smoke/analyses/completion/seed0.csv"
    other = pd.read_csv(table)
    other[other["matrix"] < 64].to_csv(table, index=False)
    shutil.rmtree(copy.folder / ".snakemake")
    assert scheduled(copy) == COMPLETION - {"baselines"}


def test_truncated_weights_are_one_line_for_who_reads_them_and_are_put_back(copy):
    weights, target = copy.folder / PRETRAINING / "step1000.safetensors", "results/smoke/attention/seed0/step1000.h5"
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[:-1000])
    result = copy.snakemake("--config", "scale=smoke", "-R", "attention", "--", target)
    errors = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
    assert result.returncode != 0 and len(errors) == 1
    assert (
        "step1000.safetensors: not a complete safetensors file" in errors[0] and "delete it and run again" in errors[0]
    )
    weights.unlink()
    assert copy.smoke(target).returncode == 0
    assert weights.read_bytes() == content
