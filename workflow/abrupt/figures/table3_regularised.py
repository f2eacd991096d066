"""The regularised nuclear norm over its lambda (paper, Table 3)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import comparison, style
from abrupt.task import Task, rows_of_task

REGULARISED = "regularised_nuclear_norm"
LEVELS = {"model": (0, (4, 1.5)), "nuclear_norm": (0, (1, 1))}
# Quantity -> label of its axis.
PANELS = {
    "mse_observed": "MSE, observed entries",
    "mse_masked": "MSE, masked entries",
    "nuclear_norm_excess": "",
}


def tidy(task: Task, completion: list[str], baselines: list[str]) -> pd.DataFrame:
    """One row for each seed, method and lambda (`value`; nan for methods without): means over the matrices of the
    task and their standard errors."""
    table = rows_of_task(comparison.read(completion, baselines), task)
    table = table[table["method"].isin([REGULARISED, *LEVELS])].rename(columns={"regularisation": "value"})
    return comparison.summary(table, ["method", "seed", "value"])


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """Errors and nuclear norm against lambda, with the model and the unregularised minimiser as levels."""
    figure = style.new_figure(style.TEXT_WIDTH, 3.0)
    for axes, (quantity, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        comparison.draw_methods(axes, table[table["method"] == REGULARISED], quantity)
        _draw_levels(axes, table, quantity)
        axes.set(xscale="log", xlabel="λ", ylabel=label)
    observed, masked, excess = figure.axes
    observed.set_yscale("log")
    masked.set_yscale("log")
    comparison.draw_excess_axis(excess)
    figure.suptitle(
        f"{comparison.matrices_text(table)}, {style.seeds_text(table)}; bars and bands: 2 standard errors", size=7.5
    )
    style.legend_below(figure, ncols=4)
    return figure


def _draw_levels(axes: Axes, table: pd.DataFrame, quantity: str) -> None:
    """Methods without lambda as horizontal lines; where observed entries are met exactly there is none to see."""
    for method, linestyle in LEVELS.items():
        color, label = (comparison.LOOKS[method][key] for key in ("color", "label"))
        for row in table[table["method"] == method].to_dict("records"):
            if quantity == "mse_observed" and method == "nuclear_norm":
                continue
            low, high = (
                row[quantity] + sign * row[f"{quantity}_error"]
                for sign in (-style.STANDARD_ERRORS, style.STANDARD_ERRORS)
            )
            axes.axhspan(low, high, color=color, alpha=0.15, linewidth=0)
            axes.axhline(row[quantity], color=color, linestyle=linestyle, label=label)
