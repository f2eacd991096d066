"""What the figures that compare the model with classical completion share (Figures 3 and 19, Table 3)."""

import pandas as pd
from matplotlib.axes import Axes

from abrupt.figures import style
from abrupt.task import Task

LOOKS = {
    "model": {"label": "BERT, last step", "color": "#0072B2", "marker": "o"},
    "nuclear_norm": {"label": "nuclear-norm minimisation", "color": "#D55E00", "marker": "s"},
    "regularised_nuclear_norm": {"label": "regularised nuclear norm", "color": "#E69F00", "marker": "D"},
    "alternating_least_squares": {
        "label": "alternating least squares, told the rank",
        "color": "#CC79A7",
        "marker": "^",
    },
    "column_space_oracle": {"label": "oracle told the column space", "color": "#009E73", "marker": "v"},
}
# `nuclear_norm_excess` is the nuclear norm of the solution less that of the true matrix.
QUANTITIES = ("mse_all", "mse_observed", "mse_masked", "nuclear_norm", "nuclear_norm_excess")
AXIS_LABELS = {
    "mask_probability": "mask probability",
    "rank": "rank",
    "rows": "rows",
    "columns": "columns",
    "factor_scale.uniform": "s, factors Unif[−s, s]",
    "factor_scale.gaussian": "s, factors N(0, s²)",
    "factor_scale.laplace": "s, factors Laplace(0, s)",
}


def read(completion: list[str], baselines: list[str]) -> pd.DataFrame:
    """The tables of every seed below one another, with the columns `method` and `nuclear_norm_excess`."""
    model = pd.concat(map(pd.read_csv, completion), ignore_index=True).assign(method="model")
    table = pd.concat([model, *map(pd.read_csv, baselines)], ignore_index=True)
    return table.assign(nuclear_norm_excess=table["nuclear_norm"] - table["nuclear_norm_truth"])


def summary(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """For each group of `by`: number of matrices, and means over them of `QUANTITIES` with standard errors
    (`..._error`)."""
    groups = table.groupby(by, dropna=False)
    parts = {"matrices": groups.size()}
    for quantity in QUANTITIES:
        parts |= {quantity: groups[quantity].mean(), f"{quantity}_error": groups[quantity].sem()}
    return pd.DataFrame(parts).reset_index()


def draw_methods(axes: Axes, table: pd.DataFrame, quantity: str) -> None:
    """A line for each method and seed of a summary against its column `value`, with two standard errors."""
    for method, look in LOOKS.items():
        method_rows = table[table["method"] == method]
        for number, (_, seed_rows) in enumerate(method_rows.groupby("seed")):
            seed_rows = seed_rows.sort_values("value")
            label = look["label"] if number == 0 else None
            look = {**look, "label": label, "linewidth": 0.8, "markersize": 3.5}
            error = seed_rows[f"{quantity}_error"]
            style.draw_errors(axes, seed_rows["value"], seed_rows[quantity], yerr=error, **look)


def draw_predicting_zero(axes: Axes, table: pd.DataFrame, task: Task, axis: str) -> None:
    """The MSE over all entries of predicting 0 at masked entries and the truth elsewhere, p E[x^2], along an axis."""
    values = sorted(table["value"].unique())
    tasks = [task.changed(axis, value) for value in values]
    levels = [other.mask_probability * other.entry_variance for other in tasks]
    axes.plot(values, levels, color=style.GREY, linestyle=(0, (1, 1)), label="predicting 0 at masked entries: p E[x²]")


def draw_excess_axis(axes: Axes) -> None:
    """The y axis of `nuclear_norm_excess`, with a line at 0."""
    axes.axhline(0, color="black", linewidth=0.6, linestyle=(0, (4, 1.5)), label="nuclear norm of the truth", zorder=0)
    axes.set_ylabel("nuclear norm, solution − truth")


def matrices_text(table: pd.DataFrame) -> str:
    """'512 matrices a point'."""
    return f"{style.span_text(table['matrices'])} matrices a point"
