"""The model against classical completion over the mask probability (paper, Figure 3)."""

import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import comparison, style
from abrupt.task import Task, rows_along

AXIS = "mask_probability"


def tidy(task: Task, completion: list[str], baselines: list[str]) -> pd.DataFrame:
    """One row for each method, seed and mask probability (`value`): means over matrices and their standard errors."""
    table = comparison.read(completion, baselines)
    table = table[table["method"] != "regularised_nuclear_norm"]
    return comparison.summary(rows_along(table, task, AXIS), ["method", "seed", "value"])


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """MSE on a log scale, and nuclear norm against that of the truth, over the mask probability."""
    figure = style.new_figure(style.TEXT_WIDTH, 3.6)
    error, norm = figure.subplots(1, 2)
    comparison.draw_methods(error, table, "mse_all")
    comparison.draw_predicting_zero(error, table, task, AXIS)
    comparison.draw_methods(norm, table, "nuclear_norm_excess")
    comparison.draw_excess_axis(norm)
    for axes in (error, norm):
        axes.axvline(getattr(task, AXIS), color="0.8", linewidth=0.8, label="as trained", zorder=0)
        axes.set_xlabel(comparison.AXIS_LABELS[AXIS])
    error.set(yscale="log", ylabel=f"{style.MSE_LABEL}, all entries")
    error.set_title(f"{comparison.matrices_text(table)}, {style.seeds_text(table)}")
    norm.set_title("bars: 2 standard errors over matrices")
    style.legend_below(figure, ncols=3)
    return figure
