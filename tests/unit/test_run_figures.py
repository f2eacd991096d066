"""Figures of runs of their own: each from its CSV alone, with what never drops named as such."""

from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from drawing import CATALOGUE, chosen, rendered, texts

from abrupt.figures import sweep
from abrupt.storage.attention_files import write_attention
from abrupt.storage.files import write_csv
from abrupt.task import Task

TASK = Task(3, 4, 1, 0.3, 1, 1, "uniform", 1)
STEP = np.arange(50, 3001, 50)
GPT_STEPS = [0, 500, 1500, 3000]
PLATEAU = 1 / 9
FIGURES = [figure for figure, about in CATALOGUE.items() if about["target"] != "figures"]
# What an input may be called -> the names of the runs behind it, with the step of each one's drop.
RUNS = {
    "width": {"width16_depth3_heads4": None, "width64_depth3_heads4": 1500, "width128_depth3_heads4": 800},
    "depth": {"width64_depth3_heads4": 1500, "width64_depth12_heads4": 700},
    "heads": {"width64_depth3_heads4": 1500, "width64_depth3_heads1": 2000},
    "mixture": {"mixture": 1500},
    "larger": {"size10": 1000, "size12": 2000},
    "gaussian": {"gaussian": 1500},
    "gpt_training": {"gpt": 1500},
}


def fall(drop_step):
    """From 0 to 1 at `drop_step`, or never."""
    return 0 * STEP if drop_step is None else 1 / (1 + np.exp((drop_step - STEP) / 40))


def write_training(folder, run, drop_step, seed=0):
    """A curve that has the columns of every kind of run."""
    done = fall(drop_step)
    masked = PLATEAU * (1 - 0.97 * done)
    columns = {"step": STEP, "mse_all": 0.3 * masked, "mse_observed": 0.01 + 0 * done, "mse_masked": masked}
    if run == "mixture":
        columns |= {"mse_masked_5x5": masked, "mse_masked_9x9": np.where(STEP % 500, PLATEAU, np.nan)}
    if run == "gpt":
        del columns["mse_masked"]
        evaluated = STEP % 250 == 0
        columns |= {"cross_entropy_observed": 3 * (1 - 0.97 * done), "cross_entropy_masked": 3 + 0 * done}
        columns |= {"accuracy_observed": 0.02 + 0.95 * done, "accuracy_masked": 0.02 + 0 * done}
        columns |= {f"eval_{name}": columns[name] for name in ("cross_entropy_observed", "accuracy_masked")}
        columns |= {"eval_mse_masked": np.where(evaluated, masked, np.nan)}
        columns |= {"eval_marginal_entropy": np.where(evaluated, 3.0, np.nan)}
    path = folder / run / f"seed{seed}" / "training.csv"
    write_csv(path, pd.DataFrame(columns))
    return str(path)


def copying_map(share):
    """Attention of two layers of one head, 2T x 2T: uniform over the past, and the rest of the weight, in
    layer 2 alone, on the entry to predict."""
    entries = TASK.num_entries
    uniform = np.tril(np.ones((2 * entries, 2 * entries)))
    uniform /= uniform.sum(1, keepdims=True)
    predicted = np.eye(2 * entries, k=-entries)
    layer2 = np.where(np.arange(2 * entries)[:, None] < entries, uniform, (1 - share) * uniform + share * predicted)
    return np.stack([uniform, layer2])[:, None].astype("float32")


def write_attention_files(folder):
    paths = []
    for step in GPT_STEPS:
        paths.append(str(folder / f"step{step}.h5"))
        arrays = {"random": {"attention_mean": copying_map(0.8 if step > 1500 else 0.0)}}
        dimensions = {"attention_mean": ("layer", "head", "query", "key")}
        write_attention(paths[-1], arrays, dimensions, {"seed": 0, "step": step}, identity={})
    return paths


def figure_inputs(name, folder, seeds=(0,), drop=True):
    """What a figure reads, of runs that never drop without `drop`."""
    files = {
        source: [write_training(folder, run, at if drop else None, seed) for run, at in runs.items() for seed in seeds]
        for source, runs in RUNS.items()
    }
    return chosen(files | {"gpt_attention": write_attention_files(folder)}, name)


def drawn(name, inputs):
    module = import_module(f"abrupt.figures.{name}")
    table = module.tidy(TASK, **inputs)
    return module.draw(table, TASK), table


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one seed", "two seeds"])
@pytest.mark.parametrize("name", FIGURES)
def test_the_csv_alone_gives_the_same_picture(tmp_path, name, seeds):
    figure, table = drawn(name, figure_inputs(name, tmp_path, seeds=seeds))
    write_csv(tmp_path / "figure.csv", table)
    again = import_module(f"abrupt.figures.{name}").draw(pd.read_csv(tmp_path / "figure.csv"), TASK)
    assert rendered(again) == rendered(figure)


@pytest.mark.parametrize(
    ("name", "members"),
    [("fig13_width", [16, 64, 128]), ("fig14_depth", [3, 12]), ("fig15_heads", [1, 4]), ("fig17_larger", [10, 12])],
)
def test_members_are_the_swept_values(tmp_path, name, members):
    assert sorted(drawn(name, figure_inputs(name, tmp_path))[1]["member"].unique()) == members


def test_a_member_that_never_drops_is_named_as_such(tmp_path):
    shown = texts(drawn("fig13_width", figure_inputs("fig13_width", tmp_path))[0])
    assert "width 16: none within 3000 steps (ends at 100.0 % of plateau)" in shown
    assert "width 64: step 1400" in shown


@pytest.mark.parametrize(
    ("name", "words"), [("fig18_gaussian", "no drop within 3000"), ("fig11_gpt_loss", "none within 3000 steps")]
)
def test_a_run_that_never_drops_is_named_as_such(tmp_path, name, words):
    assert words in texts(drawn(name, figure_inputs(name, tmp_path, drop=False))[0])


def test_each_size_of_a_mixture_is_a_member_and_steps_without_it_are_left_out(tmp_path):
    figure, table = drawn("fig16_mixture", figure_inputs("fig16_mixture", tmp_path))
    assert table.groupby("member").size().to_dict() == {5: 60, 9: 54}
    assert "size 5 × 5: step 1400" in texts(figure) and "size 9 × 9: none within" in texts(figure)


def test_looks_of_members_differ():
    looks = [sweep.look(number, 7) for number in range(7)]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == 7


def test_onset_of_copying_is_where_the_observed_cross_entropy_leaves_the_marginal_entropy(tmp_path):
    shown = texts(drawn("fig11_gpt_loss", figure_inputs("fig11_gpt_loss", tmp_path))[0])
    assert "copying from step 1400" in shown and "marginal law: 3 nats" in shown


def test_shares_of_the_decoder_s_attention_by_hand(tmp_path):
    figure, table = drawn("fig12_gpt_attention", figure_inputs("fig12_gpt_attention", tmp_path))
    assert sorted(table["step"].unique()) == [500, 1500, 3000]
    last = table[(table["step"] == 3000) & (table["layer"] == 2)]
    assert (last["query"].max(), last["key"].max()) == (12, 24)
    copied = last[last["query"] == last["key"]]["attention"]
    # 0.8, and 0.2 spread over 13 to 24 keys.
    np.testing.assert_allclose(copied, 0.8 + 0.2 / np.arange(13, 25), atol=1e-5)
    assert "predicted entry 0.81, SEP 0.01" in texts(figure)


def test_copying_from_the_start_has_no_marker_for_its_onset(tmp_path):
    _, table = drawn("fig11_gpt_loss", figure_inputs("fig11_gpt_loss", tmp_path))
    table["cross_entropy_observed"] = 2.5 * np.exp(-table["step"] / 500)
    shown = texts(import_module("abrupt.figures.fig11_gpt_loss").draw(table, TASK))
    assert "copying from step 0" in shown and "onset of copying" not in shown
