"""Every figure is drawn from its CSV alone, for any number of seeds and any shape, and without PyTorch."""

import io
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from abrupt.attention_file import write_attention
from abrupt.drop import detect_drop
from abrupt.figures import style
from abrupt.files import write_csv
from abrupt.head_scores import tidy_shares

FIGURES = ["task", "fig02_loss", "prediction", "fig04_attention", "ranked_heads", "fig08_components"]
STEPS = [0, 1000, 1500, 3000]
QUERY_GROUPS = ("all", "observed", "masked")
KEY_GROUPS = ("same_row", "same_column", "self", "observed", "masked")


def make_task(rows=5, columns=5):
    return {"rows": rows, "columns": columns, "rank": 1, "mask_probability": 0.3, "decimals": 2, "max_value": 1}


def write_training(path, task, drop_step):
    """A training curve that falls from rank / 9 at `drop_step`, or never if that is None."""
    step = np.arange(50, 3001, 50)
    fall = 0 if drop_step is None else 1 / (1 + np.exp((drop_step - step) / 40))
    masked = task["rank"] / 9 * (1 - 0.97 * fall)
    observed = 0.05 * np.exp(-step / 200) + 1e-4
    columns = {"step": step, "mse_all": 0.3 * masked + 0.7 * observed, "mse_observed": observed, "mse_masked": masked}
    write_csv(path, pd.DataFrame(columns))
    return str(path)


def write_maps(path, task, step, layers=2, heads=4):
    """An attention file of one sample, with heads that attend to same row or same column from step 1500 on."""
    random = np.random.default_rng(0)
    rows, columns = task["rows"], task["columns"]
    length = rows * columns
    same_row = np.kron(np.eye(rows), np.ones((columns, columns))) / columns
    same_column = np.kron(np.ones((rows, rows)), np.eye(columns)) / rows
    noise = random.dirichlet(np.full(length, 20.0), (layers, heads, length))
    share = 0.8 if step >= 1500 else 0.0
    ideal = np.stack([same_row, same_column] * heads)[:heads]
    matrix = np.round(np.outer(random.uniform(-1, 1, rows), random.uniform(-1, 1, columns)), 2)[None]
    observed = random.random(matrix.shape) >= 0.3
    uniform = np.tile([0.16, 0.16, 0.04, 0.7, 0.3], (3, 1))
    arrays = {
        "attention_mean": ((1 - share) * noise + share * ideal).astype("float32"),
        "head_share": uniform + share * random.uniform(0, 0.3, (layers, heads, 3, 5)),
        "uniform_share": uniform,
        "sample_matrix": matrix.astype("float32"),
        "sample_observed": observed,
        "sample_tokens": np.where(observed, 101 + np.round(100 * matrix), 0).astype(int).reshape(1, length),
        "sample_prediction": (matrix * np.where(observed, 1, share)).astype("float32"),
    }
    dimensions = {name: tuple("abcdef"[: array.ndim]) for name, array in arrays.items()}
    attributes = {"seed": 0, "step": step, "query_groups": QUERY_GROUPS, "key_groups": KEY_GROUPS}
    write_attention(path, {"random": arrays}, dimensions, attributes, run={})
    return str(path), tidy_shares(attributes, {"random": arrays})


def write_inputs(folder, task, drop_steps, layers=2, heads=4):
    """The inputs of every figure, for one seed for each of `drop_steps`."""
    training = [
        write_training(folder / f"pretrain/seed{seed}/training.csv", task, step) for seed, step in enumerate(drop_steps)
    ]
    components = [
        write_training(folder / f"components/{component}/seed{seed}/training.csv", task, at)
        for component, at in {"token_embedding": -500, "attention": 500, "mlp": None}.items()
        for seed in range(len(drop_steps))
    ]
    attention, scores = zip(
        *[write_maps(folder / f"step{step}.h5", task, step, layers, heads) for step in STEPS], strict=True
    )
    head_scores = []
    for seed in range(len(drop_steps)):
        path = folder / f"attention/seed{seed}/head_scores.csv"
        table = pd.concat(scores)
        write_csv(path, table.assign(seed=seed, score=table["score"] * 0.8**seed))
        head_scores.append(str(path))
    return {
        "task": {"attention": attention[-1]},
        "fig02_loss": {"training": training},
        "prediction": {"training": training[0], "attention": list(attention)},
        "fig04_attention": {"training": training[0], "attention": list(attention)},
        "ranked_heads": {"training": training, "head_scores": head_scores},
        "fig08_components": {"training": training, "components": components},
    }


def rendered(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    return buffer.getvalue()


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


@pytest.mark.parametrize(
    ("drop_steps", "shape"),
    [([1500], (5, 5)), ([1000, 1500, None], (5, 5)), ([None], (5, 5)), ([1500], (3, 6))],
    ids=["one seed", "several seeds", "no drop", "not square"],
)
@pytest.mark.parametrize("name", FIGURES)
def test_the_csv_alone_gives_the_same_picture(tmp_path, name, drop_steps, shape):
    task = make_task(*shape)
    module = import_module(f"abrupt.figures.{name}")
    table = module.tidy(task, **write_inputs(tmp_path, task, drop_steps)[name])
    write_csv(tmp_path / "figure.csv", table)
    again = pd.read_csv(tmp_path / "figure.csv")
    assert rendered(module.draw(again, task)) == rendered(module.draw(table, task))


def test_no_drop_is_said(tmp_path):
    task, module = make_task(), import_module("abrupt.figures.fig02_loss")
    table = module.tidy(task, [write_training(tmp_path / "pretrain/seed0/training.csv", task, None)])
    assert "no drop within 3000 steps" in texts(module.draw(table, task))


def test_component_outcomes_are_told_apart(tmp_path):
    task, module = make_task(), import_module("abrupt.figures.fig08_components")
    figure = module.draw(module.tidy(task, **write_inputs(tmp_path, task, [1500])["fig08_components"]), task)
    shown = texts(figure)
    assert "token embedding: no plateau" in shown
    assert "mlp: none within 3000 steps" in shown
    assert "attention: step 400" in shown


def test_heads_are_ranked_by_their_score_at_the_last_step(tmp_path):
    task, module = make_task(), import_module("abrupt.figures.ranked_heads")
    table = module.tidy(task, **write_inputs(tmp_path, task, [1500])["ranked_heads"])
    last = table[table["label"] == "last"].sort_values(["key_group", "rank"])
    assert all(scores.is_monotonic_decreasing for _, scores in last.groupby("key_group")["score"])


@pytest.mark.parametrize(
    ("steps", "labels"),
    [
        ([0, 1000, 1500, 3000], {1000: "before the drop", 1500: "mid-drop", 3000: "last"}),
        ([1000, 1900, 3000], {1000: "before the drop", 1900: "nearest to mid-drop", 3000: "last"}),
        ([1000, 3000], {1000: "before the drop", 3000: "last"}),
        ([1900, 3000], {1900: "first", 3000: "last"}),
        ([3000], {3000: "last"}),
    ],
)
def test_step_labels_are_true(steps, labels):
    step = np.arange(50, 3001, 50)
    drop = detect_drop(step, np.interp(step, [1400, 1600], [1 / 9, 0.001]), 1 / 9)
    assert style.labelled_steps(drop, steps) == labels


def test_one_attention_step_is_enough(tmp_path):
    task, module = make_task(), import_module("abrupt.figures.ranked_heads")
    table = module.tidy(task, **write_inputs(tmp_path, task, [1500])["ranked_heads"])
    assert "last (step 3000)" in texts(module.draw(table[table["label"] == "last"], task))


def test_saved_bytes_are_deterministic(tmp_path):
    for name in ("first", "second"):
        figure = Figure()
        figure.subplots().plot([1, 2])
        style.save(figure, tmp_path / f"{name}.pdf", tmp_path / f"{name}.png")
    for suffix in ("pdf", "png"):
        assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"second.{suffix}").read_bytes()


def test_saved_files_bear_no_date(tmp_path):
    style.save(Figure(), tmp_path / "figure.pdf", tmp_path / "figure.png")
    assert b"CreationDate" not in (tmp_path / "figure.pdf").read_bytes()


def test_no_setting_leaks_out_of_drawing(tmp_path):
    task, module = make_task(), import_module("abrupt.figures.fig02_loss")
    before = dict(matplotlib.rcParams)
    module.draw(module.tidy(task, [write_training(tmp_path / "pretrain/seed0/training.csv", task, 1500)]), task)
    assert dict(matplotlib.rcParams) == before


def test_figures_need_no_torch():
    imports = "; ".join(f"import abrupt.figures.{name}" for name in FIGURES)
    code = f"import sys; {imports}; sys.exit('torch' in sys.modules)"
    workflow = str(Path(style.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": workflow}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
