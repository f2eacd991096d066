"""Linear probes of every layer for an entry's value, row and column (paper, Figure 6)."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.task import Task

LABELS = {"relative_mse": "MSE / MSE of the mean target", "abs_cosine": "mean |cosine|"}
# (target, entries, quantity) -> title
PANELS = {
    ("masked_value", "masked", "relative_mse"): "value of a\nmasked entry",
    ("masked_row", "all", "relative_mse"): "masked row\nof an entry",
    ("masked_row", "all", "abs_cosine"): "masked row\nof an entry",
    ("masked_column", "all", "abs_cosine"): "masked column\nof an entry",
}


def tidy(task: Task, training: list[str], probes: list[str]) -> pd.DataFrame:
    """One row for each seed, step, target, group of entries and layer (empty: predicting the mean), with
    the labels of `style.read_progress`."""
    return select(
        style.read_progress(task, training, probes), ["masked_value", "element_value", "masked_row", "masked_column"]
    )


def select(table: pd.DataFrame, targets: list[str]) -> pd.DataFrame:
    """The rows of these targets."""
    return table[table["target"].isin(targets)].reset_index(drop=True)


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """Above against the layer, at the telling steps; below against the step, for every layer (Figure 6)."""
    return draw_panels(table, PANELS)


def draw_panels(table: pd.DataFrame, panels: dict[tuple[str, str, str], str]) -> Figure:
    """A column of two panels for each of `panels`."""
    figure = style.new_figure(style.TEXT_WIDTH, 4.8)
    axes = figure.subplots(2, len(panels), squeeze=False, sharey="col")
    for (above, below), ((target, entries, quantity), title) in zip(axes.T, panels.items(), strict=True):
        chosen = table[(table["target"] == target) & (table["entries"] == entries)]
        mean = chosen[chosen["layer"].isna()]
        for panel in (above, below):
            panel.axhline(mean[quantity].mean(), color=style.GREY, linewidth=0.8, linestyle=(0, (1, 1)), zorder=0)
            panel.set_ylabel(LABELS[quantity])
        chosen = chosen.dropna(subset=["layer"])
        _draw_against_layer(above, chosen, quantity)
        _draw_against_step(below, chosen, quantity)
        above.set_title(title)
    first = axes[:, 0]
    first[0].plot([], [], color=style.GREY, linewidth=0.8, linestyle=(0, (1, 1)), label="predicting the mean target")
    figure.legend(*first[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    layers = int(table["layer"].max()) + 1
    figure.legend(*first[1].get_legend_handles_labels(), loc="outside lower center", ncols=min(layers, 7))
    return figure


def _draw_against_layer(axes: Axes, table: pd.DataFrame, quantity: str) -> None:
    labelled = table.dropna(subset=["label"]).sort_values("step")
    for label, at_label in labelled.groupby("label", sort=False):
        for number, (_, seed_rows) in enumerate(at_label.groupby("seed")):
            name = f"{label} (step {style.span_text(at_label['step'])})" if number == 0 else None
            look = {"label": name, "markersize": 3, "linewidth": 0.9, **style.STEP_LOOKS[label]}
            error = seed_rows[f"{quantity}_se"]
            style.draw_errors(axes, seed_rows["layer"], seed_rows[quantity], yerr=error, **look)
    layers = sorted(table["layer"].unique())
    axes.set_xticks(layers, [f"{layer:.0f}" for layer in layers])
    axes.set_xlabel("layer (0: embeddings)")


def _draw_against_step(axes: Axes, table: pd.DataFrame, quantity: str) -> None:
    layers = sorted(table["layer"].unique())
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(layers)))
    for color, layer in zip(colors, layers, strict=True):
        for number, (_, seed_rows) in enumerate(table[table["layer"] == layer].groupby("seed")):
            seed_rows = seed_rows.sort_values("step")
            label = (f"layer {layer:.0f}" if layer else "embeddings") if number == 0 else None
            look = {"label": label, "color": color, "linewidth": 0.9}
            error = seed_rows[f"{quantity}_se"]
            style.draw_errors(axes, seed_rows["step"], seed_rows[quantity], yerr=error, **look)
    style.draw_progress_axis(axes, table)
