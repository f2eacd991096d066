"""Completion with permuted position embeddings (the authors' code, no figure of the paper)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.task import Task

KINDS = {
    "none": "not permuted",
    "rows_and_columns": "whole rows, columns",
    "within_rows": "within rows",
    "within_columns": "within columns",
    "everywhere": "everywhere",
}
LOOKS = {
    "mse_masked": {"label": "masked entries", "color": "#D55E00", "marker": "o"},
    "mse_observed": {"label": "observed entries", "color": "#0072B2", "marker": "s"},
}
COLUMNS = ["seed", "step", "label", "kind", "permutation", *(f"{name}{se}" for name in LOOKS for se in ("", "_se"))]


def tidy(task: Task, training: list[str], permuted_positions: list[str]) -> pd.DataFrame:
    """One row for each seed, telling step, kind and permutation."""
    table = style.read_progress(task, training, permuted_positions)
    return table.dropna(subset=["label"])[COLUMNS].reset_index(drop=True)


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """A panel a telling step; every permutation of every seed is a point with its error bar over matrices."""
    labels = table.sort_values("step")["label"].unique()
    figure = style.new_figure(style.TEXT_WIDTH, 3.0)
    axes = figure.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    for panel, label in zip(axes, labels, strict=True):
        at_label = table[table["label"] == label]
        _draw_points(panel, at_label)
        style.draw_plateau(panel, task)
        panel.set_title(f"{label} (step {style.span_text(at_label['step'])})")
    axes[0].set(yscale="log", ylabel=style.MSE_LABEL)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _draw_points(axes: Axes, table: pd.DataFrame) -> None:
    for offset, (column, look) in zip((-0.15, 0.15), LOOKS.items(), strict=True):
        for number, kind in enumerate(KINDS):
            kind_rows = table[table["kind"] == kind]
            spread = np.linspace(-0.1, 0.1, len(kind_rows)) if len(kind_rows) > 1 else 0
            at = np.full(len(kind_rows), number + offset) + spread
            shown = {**look, "label": look["label"] if number == 0 else None}
            error = kind_rows[f"{column}_se"]
            look = {"linestyle": "", "mfc": "none", "markersize": 3, "mew": 0.7, **shown}
            style.draw_errors(axes, at, kind_rows[column], yerr=error, **look)
    axes.set_xticks(range(len(KINDS)), KINDS.values(), rotation=35, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0)
