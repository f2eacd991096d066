"""Every figure is drawn from its CSV alone, for any number of seeds and any shape, and without PyTorch."""

import itertools
import os
import subprocess
import sys
from functools import cache
from importlib import import_module

import matplotlib
import numpy as np
import pandas as pd
import pytest
from drawing import CATALOGUE, WORKFLOW, chosen, rendered, texts
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.scores.drop import Drop, detect_drop
from abrupt.scores.heads import tidy_shares
from abrupt.storage.attention_files import write_attention
from abrupt.storage.files import write_csv
from abrupt.task import TASK_COLUMNS, Task, all_tasks

FIGURES = [figure for figure, about in CATALOGUE.items() if about["target"] == "figures"]
STEPS = [0, 1000, 1500, 3000]
LAYERS, HEADS = 2, 4
QUERY_GROUPS = ("all", "observed", "masked")
HIDDEN = ("observed", "masked")
KEY_GROUPS = ("same_row", "same_column", "self", "observed", "masked")


def make_task(rows=5, columns=5):
    return Task(rows, columns, 1, 0.3, 2, 1, "uniform", 1)


def write_training(path, task, drop_step):
    """A training curve that falls from rank / 9 at `drop_step`, or never if that is None."""
    step = np.arange(50, 3001, 50)
    fall = 0 if drop_step is None else 1 / (1 + np.exp((drop_step - step) / 40))
    masked = task.rank / 9 * (1 - 0.97 * fall)
    observed = 0.05 * np.exp(-step / 200) + 1e-4
    columns = {"step": step, "mse_all": 0.3 * masked + 0.7 * observed, "mse_observed": observed, "mse_masked": masked}
    write_csv(path, pd.DataFrame(columns))
    return str(path)


def write_maps(path, task, step):
    """An attention file of one sample, with heads that attend to same row or same column from step 1500 on."""
    random = np.random.default_rng(0)
    rows, columns = task.rows, task.columns
    length = rows * columns
    same_row = np.kron(np.eye(rows), np.ones((columns, columns))) / columns
    same_column = np.kron(np.ones((rows, rows)), np.eye(columns)) / rows
    noise = random.dirichlet(np.full(length, 20.0), (LAYERS, HEADS, length))
    share = 0.8 if step >= 1500 else 0.0
    ideal = np.stack([same_row, same_column] * HEADS)[:HEADS]
    matrix = np.round(np.outer(random.uniform(-1, 1, rows), random.uniform(-1, 1, columns)), 2)[None]
    observed = random.random(matrix.shape) >= 0.3
    uniform = np.tile([0.16, 0.16, 0.04, 0.7, 0.3], (3, 1))
    arrays = {
        "attention_mean": ((1 - share) * noise + share * ideal).astype("float32"),
        "head_share": uniform + share * random.uniform(0, 0.3, (LAYERS, HEADS, 3, 5)),
        "uniform_share": uniform,
        "sample_matrix": matrix.astype("float32"),
        "sample_observed": observed,
        "sample_tokens": np.where(observed, 101 + np.round(100 * matrix), 0).astype(int).reshape(1, length),
        "sample_prediction": (matrix * np.where(observed, 1, share)).astype("float32"),
    }
    dimensions = {name: tuple("abcdef"[: array.ndim]) for name, array in arrays.items()}
    attributes = {"seed": 0, "step": step, "query_groups": QUERY_GROUPS, "key_groups": KEY_GROUPS}
    structured = {**arrays, "sample_observed": np.arange(length).reshape(matrix.shape) >= columns}
    patterns = {"random": arrays, "masked_rows": structured, "masked_columns": structured}
    write_attention(path, patterns, dimensions, attributes, identity={})
    return str(path), tidy_shares(attributes, {"random": arrays})


def with_random(random, rows, columns):
    """The product of the values in `rows`, with random `columns`."""
    index = pd.MultiIndex.from_product(rows.values(), names=rows).to_frame(index=False)
    return index.assign(**{column: random.random(len(index)) for column in columns})


def write_representations(folder, task, seeds):
    """Probes, embeddings and permuted positions of every seed, with random numbers for what is measured."""
    row_column = {"row": range(1, task.rows + 1), "column": range(1, task.columns + 1)}
    index = {
        "probes": {
            "target": ["masked_value", "element_value", "masked_row", "masked_column", "singular_vector"],
            "entries": ["all", "observed", "masked"],
            "layer": [np.nan, 0, 1, 2],
        },
        "token_embeddings": {"value": np.arange(-20, 21) / 100},
        "position_embeddings": row_column,
        "permuted_positions": {
            "kind": ["none", "rows_and_columns", "within_rows", "within_columns", "everywhere"],
            "permutation": [1, 2],
        },
    }
    columns = {
        "probes": ["relative_mse", "relative_mse_se", "abs_cosine", "abs_cosine_se"],
        "token_embeddings": ["norm", "distance", "pc1", "pc2", "pc3", "final_pc1", "final_pc2"],
        "position_embeddings": ["distance", "row_part", "column_part", "silhouette_row", "silhouette_column"]
        + ["final_pc1", "final_pc2", "tsne1", "tsne2"],
        "permuted_positions": ["mse_masked", "mse_masked_se", "mse_observed", "mse_observed_se"],
    }
    paths = {name: [] for name in index}
    for name, seed in itertools.product(index, range(seeds)):
        random = np.random.default_rng(seed)
        path = folder / f"analyses/{name}/seed{seed}.csv"
        write_csv(path, with_random(random, {"seed": [seed], "step": STEPS} | index[name], columns[name]))
        paths[name].append(str(path))
    return paths


def write_interventions(folder, seed):
    """Tables of a model that copies up to step 1000 and predicts 0.1 afterwards."""
    rows = [
        {
            "inputs": inputs,
            "step": step,
            "token_value": value,
            "mean_prediction": value if step <= 1000 else 0.1,
            "mean_prediction_error": 0.01,
            "mse_to_value": 1e-3 if step <= 1000 else 0.1,
            "mse_to_value_error": 1e-4,
            "mse_to_truth": 1 / 9 + value**2,
            "mse_to_truth_error": 0.01,
            "mse_if_copying": 1 / 9 + value**2,
            "seed": seed,
        }
        for inputs in ("low_rank", "full_rank")
        for step in STEPS
        for value in (0.0, 0.44, -0.24)
    ]
    path = folder / f"token_intervention/seed{seed}.csv"
    write_csv(path, pd.DataFrame(rows).replace({"token_value": {0.0: np.nan}}))
    return str(path)


def write_completions(folder, task, seed):
    """Tables of the model and of the classical methods, three matrices a task, errors 1, 2, 3 times a method's own."""
    shifts = {
        "mask_probability": [0.5],
        "rank": [2],
        "rows": [task.rows + 1],
        "factor_scale": {"gaussian": [0.25, 0.5]},
    }
    tasks = all_tasks(task, shifts)
    scale = {"model": 1e-3, "nuclear_norm": 4e-3, "alternating_least_squares": 2e-3, "column_space_oracle": 5e-4}
    methods = [(method, np.nan, error) for method, error in scale.items()]
    methods += [("regularised_nuclear_norm", strength, 3e-3) for strength in (0.001, 0.01)]
    rows = [
        {name: getattr(shifted, name) for name in TASK_COLUMNS}
        | {"matrix": matrix, "mse_all": error * (matrix + 1), "mse_observed": error, "mse_masked": 2 * error}
        | {"nuclear_norm": matrix + 3 - 10 * error, "nuclear_norm_truth": matrix + 3.0}
        | {"method": method, "regularisation": strength, "seed": seed}
        for method, strength, error in methods
        for shifted in (tasks if method != "regularised_nuclear_norm" else tasks[:1])
        for matrix in range(3)
    ]
    table = pd.DataFrame(rows)
    of_model = table["method"] == "model"
    paths = {name: folder / f"{name}/seed{seed}.csv" for name in ("completion", "baselines")}
    write_csv(paths["completion"], table[of_model].drop(columns=["method", "regularisation"]).assign(step=3000))
    write_csv(paths["baselines"], table[~of_model])
    return {name: str(path) for name, path in paths.items()}


def write_switched(folder, seed):
    """The tables of head ablation, activation patching and component switching of one seed."""
    random = np.random.default_rng(seed)

    def write(name, rows, columns):
        both = [row | {"step": step} for step in (1000, 3000) for row in rows]
        values = {column: random.uniform(0.001, 0.1, len(both)) for column in columns}
        path = folder / f"analyses/{name}/seed{seed}.csv"
        write_csv(path, pd.DataFrame(both).assign(seed=seed, **values))
        return str(path)

    mse = [f"mse_{entries}{suffix}" for entries in ("all", "observed", "masked") for suffix in ("", "_se")]
    effect = [f"effect_{entries}{suffix}" for entries in ("masked", "observed") for suffix in ("", "_se")]
    every = [{"layer": layer + 1, "head": head + 1} for layer in range(LAYERS) for head in range(HEADS)]
    replaced = [{"target": "head", "group": "same_row", "heads": 1, **head} for head in every]
    replaced.append({"target": "group", "group": "same_row", "heads": len(every)})
    ablated = [row | {"replacement": name} for row in replaced for name in ("batch_mean", "uniform")]
    sites = [{"site": f"hidden_{name}", "layer": layer} for name in HIDDEN for layer in range(LAYERS + 1)]
    sites += [{"site": "attention", "layer": layer + 1} for layer in range(LAYERS)]
    sites += [{"site": "head", **head} for head in every] + [{"site": "all_attention"}]
    components = [{"component": name, "donor_step": 2000} for name in ("none", "attention", "mlp")]
    return {
        "head_ablation": write("head_ablation", [{"target": "none", "heads": 0}, *ablated], mse),
        "activation_patching": write("activation_patching", sites, [*effect, "difference_masked"]),
        "component_switching": write("component_switching", components, mse),
    }


def write_inputs(folder, task, drop_steps):
    """The files that figures of the main run may read, by name, for one seed for each of `drop_steps`."""
    seeds = range(len(drop_steps))
    training = [write_training(folder / f"pretrain/seed{seed}/training.csv", task, drop_steps[seed]) for seed in seeds]
    components = [
        write_training(folder / f"components/{component}/seed{seed}/training.csv", task, at)
        for component, at in {"token_embedding": -500, "attention": 500, "mlp": None}.items()
        for seed in seeds
    ]
    attention, scores = zip(*[write_maps(folder / f"step{step}.h5", task, step) for step in STEPS], strict=True)
    head_scores = []
    for seed in seeds:
        head_scores.append(str(folder / f"attention/seed{seed}/head_scores.csv"))
        table = pd.concat(scores)
        write_csv(head_scores[-1], table.assign(seed=seed, score=table["score"] * 0.8**seed))
    by_seed = [
        write_completions(folder, task, seed)
        | write_switched(folder, seed)
        | {"token_intervention": write_interventions(folder, seed)}
        for seed in seeds
    ]
    return {
        "training": training,
        "components": components,
        "attention": list(attention),
        "head_scores": head_scores,
        **{name: [paths[name] for paths in by_seed] for name in by_seed[0]},
        **write_representations(folder, task, len(seeds)),
    }


@pytest.fixture(scope="module")
def figure_inputs(tmp_path_factory):
    """A function that gives what a figure reads; the files are written once for each task and drops."""
    written = cache(lambda task, drop_steps: write_inputs(tmp_path_factory.mktemp("inputs"), task, drop_steps))

    def inputs(name, task, drop_steps=(1500,)):
        return chosen(written(task, drop_steps), name)

    return inputs


@pytest.mark.parametrize(
    ("drop_steps", "shape"),
    [((1500,), (5, 5)), ((1000, 1500, None), (3, 6)), ((None,), (5, 5))],
    ids=["one seed", "several seeds, not square", "no drop"],
)
@pytest.mark.parametrize("name", FIGURES)
def test_the_csv_alone_gives_the_same_picture(tmp_path, figure_inputs, name, drop_steps, shape):
    task = make_task(*shape)
    module = import_module(f"abrupt.figures.{name}")
    table = module.tidy(task, **figure_inputs(name, task, drop_steps))
    write_csv(tmp_path / "figure.csv", table)
    again = pd.read_csv(tmp_path / "figure.csv")
    assert rendered(module.draw(again, task)) == rendered(module.draw(table, task))


def test_no_drop_is_said(tmp_path):
    task, module = make_task(), import_module("abrupt.figures.fig02_loss")
    table = module.tidy(task, [write_training(tmp_path / "pretrain/seed0/training.csv", task, None)])
    assert "no drop within 3000 steps" in texts(module.draw(table, task))


def test_component_outcomes_are_told_apart(figure_inputs):
    task, module = make_task(), import_module("abrupt.figures.fig08_components")
    figure = module.draw(module.tidy(task, **figure_inputs("fig08_components", task)), task)
    shown = texts(figure)
    assert "token embedding: no plateau" in shown
    assert "mlp: none within 3000 steps" in shown
    assert "attention: step 400" in shown


def test_points_of_the_comparison_are_means_over_matrices(figure_inputs):
    task, module = make_task(), import_module("abrupt.figures.fig03_nuclear_norm")
    table = module.tidy(task, **figure_inputs("fig03_nuclear_norm", task))
    (row,) = table.query("method == 'nuclear_norm' and value == 0.5").to_dict("records")
    assert (row["matrices"], row["mse_all"]) == (3, pytest.approx(8e-3))
    assert row["mse_all_error"] == pytest.approx(4e-3 / 3**0.5)
    # The norms of the three matrices differ, that of each solution over that of its matrix does not.
    assert row["nuclear_norm_excess"] == pytest.approx(-0.04) and row["nuclear_norm_excess_error"] < 1e-9


def test_variants_are_on_their_own_axis_alone(figure_inputs):
    task, module = make_task(), import_module("abrupt.figures.fig19_out_of_distribution")
    table = module.tidy(task, **figure_inputs("fig19_out_of_distribution", task))
    values = table[table["method"] == "model"].groupby("axis")["value"].apply(list).to_dict()
    assert values == {
        "mask_probability": [0.3, 0.5],
        "rank": [1, 2],
        "rows": [5, 6],
        "columns": [5],
        "factor_scale.uniform": [1],
        "factor_scale.gaussian": [0.25, 0.5],
    }


def test_predicting_zero_costs_what_the_changed_task_says(figure_inputs):
    task, module = make_task(), import_module("abrupt.figures.fig19_out_of_distribution")
    table = module.tidy(task, **figure_inputs("fig19_out_of_distribution", task))
    panels = {panel.get_xlabel(): panel for panel in module.draw(table, task).axes}

    def level(label):
        (line,) = [line for line in panels[label].lines if str(line.get_label()).startswith("predicting 0")]
        return line.get_ydata()

    assert level("mask probability") == pytest.approx([0.3 / 9, 0.5 / 9])
    assert level("rank") == pytest.approx([0.3 / 9, 0.6 / 9])
    assert level("s, factors N(0, s²)") == pytest.approx([0.3 * 0.25**4, 0.3 * 0.5**4])


def test_tables_one_and_two_show_their_own_inputs(tmp_path, figure_inputs):
    task, module = make_task(), import_module("abrupt.figures.table2_full_rank")
    inputs = figure_inputs("table2_full_rank", task)
    table = pd.read_csv(inputs["token_intervention"][0])
    path = tmp_path / "token_intervention.csv"
    write_csv(path, table.assign(mean_prediction=np.where(table["inputs"] == "full_rank", 7.0, 8.0)))
    drawn = module.tidy(task, **inputs | {"token_intervention": [path]})
    assert (drawn["mean_prediction"] == 7.0).all()
    assert drawn["onset"].iloc[0] < 1500 < drawn["completion"].iloc[0]


def test_heads_are_ranked_by_their_score_at_the_last_step(figure_inputs):
    task, module = make_task(), import_module("abrupt.figures.ranked_heads")
    table = module.tidy(task, **figure_inputs("ranked_heads", task))
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


def test_one_attention_step_is_enough(figure_inputs):
    task, module = make_task(), import_module("abrupt.figures.ranked_heads")
    table = module.tidy(task, **figure_inputs("ranked_heads", task))
    assert "last (step 3000)" in texts(module.draw(table[table["label"] == "last"], task))


def test_places_are_rounded_so_that_the_layout_is_the_same_at_every_drawing():
    figure = style.new_figure(3, 3)
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.3])
    panels = above.subplots(1, 3)
    above.colorbar(panels[0].imshow(np.eye(2)), ax=panels)
    below.subplots()
    figure.draw_without_rendering()
    boxes = [axes.get_position(original=True) for axes in figure.axes] + [above.bbox_relative, below.bbox_relative]
    places = np.array([box.bounds for box in boxes])
    np.testing.assert_allclose(places, places.round(6), rtol=0, atol=1e-15)
    assert panels[0].get_position().width > 0.1  # the layout has been made


DRAW = """
import sys
import pandas as pd
from abrupt.figures import fig04_attention, style
from abrupt.task import Task
task = Task(5, 5, 1, 0.3, 2, 1, "uniform", 1)
style.save(fig04_attention.draw(pd.read_csv(sys.argv[1]), task), *sys.argv[2:])
"""
SURROUNDINGS = [
    {"PYTHONHASHSEED": "0"},
    {"PYTHONHASHSEED": "1", "MPLBACKEND": "module://a_backend_that.is_not_installed"},
    {"PYTHONHASHSEED": "2", "MATPLOTLIBRC": "matplotlibrc"},
]


def test_bytes_depend_on_the_table_alone(tmp_path, figure_inputs):
    task, module = make_task(), import_module("abrupt.figures.fig04_attention")
    table = module.tidy(task, **figure_inputs("fig04_attention", task))
    write_csv(tmp_path / "table.csv", table[table["label"] == "last"])
    (tmp_path / "matplotlibrc").write_text("savefig.bbox: tight\ntext.usetex: True\nfont.size: 20\nbackend: tkagg\n")
    drawn = []
    for number, variables in enumerate(SURROUNDINGS):
        paths = [tmp_path / f"{number}.{suffix}" for suffix in ("pdf", "png")]
        environment = os.environ | {"PYTHONPATH": str(WORKFLOW)} | variables
        subprocess.run(
            [sys.executable, "-c", DRAW, tmp_path / "table.csv", *paths], env=environment, cwd=tmp_path, check=True
        )
        drawn.append([path.read_bytes() for path in paths])
    assert drawn[0] == drawn[1] == drawn[2]


def test_saved_files_bear_no_date(tmp_path):
    style.save(Figure(), tmp_path / "figure.pdf", tmp_path / "figure.png")
    assert b"CreationDate" not in (tmp_path / "figure.pdf").read_bytes()


def test_no_setting_leaks_out_of_drawing(tmp_path):
    task, module = make_task(), import_module("abrupt.figures.fig02_loss")
    before = dict(matplotlib.rcParams)
    module.draw(module.tidy(task, [write_training(tmp_path / "pretrain/seed0/training.csv", task, 1500)]), task)
    assert dict(matplotlib.rcParams) == before


def test_figures_claims_and_scores_need_no_torch():
    rooms = [WORKFLOW / "abrupt" / room for room in ("figures", "claims", "scores")]
    modules = [f"abrupt.{path.parent.name}.{path.stem}" for room in rooms for path in room.glob("[!_]*.py")]
    assert len(modules) > len(CATALOGUE)
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(WORKFLOW)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_error_bars_reach_two_standard_errors_either_way():
    axes = Figure().subplots()
    style.draw_errors(axes, [1.0], [5.0], xerr=pd.Series([0.1]), yerr=pd.Series([0.5]))
    ends = [segment for collection in axes.collections for segment in collection.get_segments()]
    np.testing.assert_allclose(ends, [[[0.8, 5], [1.2, 5]], [[1, 4], [1, 6]]])


def test_runs_that_lie_on_one_another_are_all_seen(tmp_path):
    task = make_task()
    training = [write_training(tmp_path / "pretrain/seed0/training.csv", task, 1500)]
    names = ["position_embedding", "both_embeddings"]
    flat = [write_training(tmp_path / f"{name}/seed0/training.csv", task, None) for name in names]
    module = import_module("abrupt.figures.fig08_components")
    figure = module.draw(module.tidy(task, training, flat), task)
    below, above = (
        line
        for line in figure.axes[0].lines
        if line.get_color() in [module.LOOKS[name]["color"] for name in names]
        if len(line.get_xdata()) > 2
    )
    assert below.get_zorder() < above.get_zorder() and below.get_linewidth() > 2 * above.get_linewidth()


def test_a_drop_from_the_start_has_no_marker_for_its_onset():
    # An onset of 0 is before the first logged step.
    step = np.arange(50, 3001, 50)
    masked = 0.08 * np.exp(-step / 500)
    table = pd.DataFrame({"seed": 0, "step": step, "mse_all": masked, "mse_observed": masked, "mse_masked": masked})
    shown = texts(import_module("abrupt.figures.fig02_loss").draw(table, make_task()))
    assert "completion of the drop" in shown and "onset of the drop" not in shown


def test_seeds_of_a_curve_have_one_legend(figure_inputs):
    task, module = make_task(), import_module("abrupt.figures.fig02_loss")
    table = module.tidy(task, **figure_inputs("fig02_loss", task, (1000, 1500)))
    assert texts(module.draw(table, task)).count("onset of the drop") == 1


def test_range_over_seeds_of_how_far_predictions_are_apart_is_one_of_numbers(figure_inputs):
    task, module = make_task(), import_module("abrupt.figures.activation_patching")
    table = module.tidy(task, **figure_inputs("activation_patching", task, (1000, 1500)))
    table["difference_masked"] = table["seed"].map({0: 10.2, 1: 9.5})
    assert "masked entries: 9.5–10.2 apart" in texts(module.draw(table, task))


def test_steps_of_progress_have_the_phase_they_are_in():
    drop = Drop(last_step=5000, final=0.001, onset=2000, midpoint=2100, completion=2400)
    phases = style.progress_steps(drop, [0, 1400, 1900, 2150, 2300, 4900, 5000])
    assert phases == {0: "plateau", 1400: "plateau", 2150: "drop", 2300: "drop", 4900: "completion", 5000: "completion"}


def test_a_step_of_the_last_quarter_of_the_plateau_is_not_in_the_drop():
    drop = Drop(last_step=5000, final=0.001, onset=2000, midpoint=2100, completion=2400)
    assert style.progress_steps(drop, [0, 1900, 5000]) == {0: "plateau", 1900: "end of plateau", 5000: "completion"}
