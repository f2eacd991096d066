"""The model on matrices of other tasks than it was trained on, against nuclear-norm minimisation (paper, Figure 19)."""

import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import comparison, style
from abrupt.task import Task, rows_along

METHODS = ("model", "nuclear_norm")


def tidy(task: Task, completion: list[str], baselines: list[str]) -> pd.DataFrame:
    """One row for each axis, value, method and seed: means over matrices and their standard errors."""
    table = comparison.read(completion, baselines)
    table = table[table["method"].isin(METHODS)]
    axes = [rows_along(table, task, axis) for axis in comparison.AXIS_LABELS]
    return comparison.summary(pd.concat(axes), ["axis", "method", "seed", "value"])


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """A panel for each thing that is changed."""
    figure = style.new_figure(style.TEXT_WIDTH, 4.2)
    panels = figure.subplots(2, 4, sharey=True)
    shown = [axis for axis in comparison.AXIS_LABELS if (table["axis"] == axis).any()]
    for panel, axis in zip(panels.flat, shown, strict=False):
        rows = table[table["axis"] == axis]
        comparison.draw_methods(panel, rows, "mse_all")
        comparison.draw_predicting_zero(panel, rows, task, axis)
        name, _, law = axis.partition(".")
        if law in ("", task.factor_law):
            panel.axvline(getattr(task, name), color="0.8", linewidth=0.8, label="as trained", zorder=0)
        panel.set(yscale="log", xlabel=comparison.AXIS_LABELS[axis])
    for panel in panels.flat[len(shown) :]:
        panel.set_axis_off()
    figure.supylabel(f"{style.MSE_LABEL}, all entries", size=7.5)
    figure.suptitle(
        f"{comparison.matrices_text(table)}, {style.seeds_text(table)}; bars: 2 standard errors over matrices", size=7.5
    )
    style.legend_below(figure, ncols=4)
    return figure
