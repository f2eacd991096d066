"""What is lost when a head, or a group of heads, is ablated (of the authors' released analyses)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.task import Task

ENTRIES = ("masked", "observed")
FILLS = {"batch_mean": "full", "uniform": "none"}


def tidy(task: Task, head_ablation: list[str]) -> pd.DataFrame:
    """The tables of the analysis, one below the other, seeds mixed: mse_masked and mse_observed with their standard
    errors over matrices for each step, target (none, head, group) and replacement."""
    table = pd.concat([pd.read_csv(path) for path in head_ablation], ignore_index=True)
    errors = [f"mse_{entries}{suffix}" for entries in ENTRIES for suffix in ("", "_se")]
    return table[["seed", "step", "target", "layer", "head", "group", "heads", "replacement", *errors]]


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """A column for each step and kind of entries; single heads above, groups of heads below."""
    steps, seeds = sorted(table["step"].unique()), sorted(table["seed"].unique())
    single = table[table["target"] == "head"]
    groups = table[table["target"] == "group"]
    heads = single[["layer", "head"]].drop_duplicates().sort_values(["layer", "head"])
    heads = [f"L{layer:.0f}H{head:.0f}" for layer, head in heads.itertuples(index=False)]
    names = [group for group in style.HEAD_GROUPS if group in set(groups["group"])]
    above, below = 0.13 * max(len(heads), 6) * min(len(seeds), 2), 0.22 * len(names) * min(len(seeds), 2)
    figure = style.new_figure(style.TEXT_WIDTH, above + below + 1.9)
    columns = [(step, entries) for entries in ENTRIES for step in steps]
    axes = figure.subplots(2, len(columns), sharey="row", squeeze=False, height_ratios=[above, below])
    for (top, bottom), (step, entries) in zip(axes.T, columns, strict=True):
        for panel, labels, part in [(top, heads, single), (bottom, names, groups)]:
            at_step = part[part["step"] == step]
            own = "L" + at_step["layer"].map("{:.0f}".format) + "H" + at_step["head"].map("{:.0f}".format)
            row = own if panel is top else at_step["group"]
            _draw_errors(panel, at_step.assign(row=row.map(labels.index)), entries, len(seeds))
            _draw_levels(panel, table[(table["step"] == step) & (table["target"] == "none")], entries, task)
            panel.grid(axis="y", color="0.92", linewidth=0.5)
        top.set_title(f"{entries} entries,\nstep {step}")
        top.tick_params(axis="x", which="both", labelbottom=False)
    for entries_axes in np.split(axes, len(ENTRIES), axis=1):
        style.share_log_scale(list(entries_axes.flat))
    top, bottom = axes[:, 0]
    top.set_yticks(range(len(heads)), heads)
    top.set(ylim=(len(heads) - 0.4, -0.6), ylabel="one head (layer L, head H)")
    bottom.set_yticks(range(len(names)), [_describe(groups, name) for name in names])
    bottom.set(ylim=(len(names) - 0.4, -0.6), ylabel="a group")
    figure.supxlabel(f"{style.MSE_LABEL}, {style.seeds_text(table)}", size=7.5)
    _draw_legend(figure, axes[0, 0])
    return figure


def _draw_errors(axes: Axes, table: pd.DataFrame, entries: str, num_seeds: int) -> None:
    """Points with their error bars; seeds one below the other within a row."""
    shift = dict(zip(sorted(table["seed"].unique()), _spread(num_seeds), strict=True))
    for (group, replacement), part in table.groupby(["group", "replacement"]):
        look = {**style.HEAD_GROUPS[group], "fillstyle": FILLS[replacement], "linestyle": "none", "markersize": 4}
        y = part["row"] + part["seed"].map(shift)
        error = part[f"mse_{entries}_se"]
        style.draw_errors(axes, part[f"mse_{entries}"], y, xerr=error, markeredgewidth=0.8, **look)


def _spread(number: int) -> list[float]:
    return [0.6 * (index - (number - 1) / 2) / number for index in range(number)]


def _draw_levels(axes: Axes, intact: pd.DataFrame, entries: str, task: Task) -> None:
    for level in intact[f"mse_{entries}"]:
        axes.axvline(level, color="black", linewidth=0.8, zorder=0)
    if entries == "masked":
        axes.axvline(task.entry_variance, color=style.GREY, linewidth=0.8, linestyle=(0, (1, 1)), zorder=0)


def _describe(groups: pd.DataFrame, name: str) -> str:
    """'same row: 2 heads', or the range over seeds."""
    numbers = sorted(groups.loc[groups["group"] == name, "heads"].unique())
    return f"{name.replace('_', ' ')}: {style.span_text(numbers)} head{'s' * (numbers != [1])}"


def _draw_legend(figure: Figure, masked: Axes) -> None:
    handles = [
        masked.plot([], [], "o", color="black", fillstyle=fill, markersize=4, markeredgewidth=0.8)[0]
        for fill in FILLS.values()
    ]
    labels = ["map replaced by its mean over the batch", "map replaced by uniform attention"]
    handles += [masked.plot([], [], color="black", linewidth=0.8)[0]]
    handles += masked.plot([], [], color=style.GREY, linewidth=0.8, linestyle=(0, (1, 1)))
    labels += ["nothing replaced", "predicting 0"]
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
