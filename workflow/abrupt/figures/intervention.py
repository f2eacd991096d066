"""What the figures of the token intervention share (paper, Tables 1 and 2)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.task import Task

COLORS = ("black", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osDv^PX"
# Quantity -> title, the column that has it for a model that copies, label of the y axis.
PANELS = {
    "mean_prediction": ("dashed: v, as copying gives", "copied", "mean prediction, masked entries"),
    "mse_to_value": ("against the value to be copied", None, "MSE to v, masked entries"),
    "mse_to_truth": ("dashed: copying, E[x²] + v²", "mse_if_copying", "MSE to the truth, masked entries"),
}


def tidy(task: Task, training: list[str], token_intervention: list[str], inputs: str) -> pd.DataFrame:
    """One row for each seed, step and token on these inputs, as the analysis gives them, with the value to be copied
    (`copied`) and the onset and completion of the seed's drop (nan without one)."""
    table = pd.concat(map(pd.read_csv, token_intervention), ignore_index=True)
    table = table[table["inputs"] == inputs].drop(columns="inputs")
    drops = {seed: style.find_drop(curve, task) for seed, curve in style.read_training(training).groupby("seed")}
    ends = {name: {seed: getattr(drop, name) for seed, drop in drops.items()} for name in ("onset", "completion")}
    ends = {name: table["seed"].map(by_seed).astype(float) for name, by_seed in ends.items()}
    return table.assign(copied=table["token_value"].fillna(0.0), **ends)


def draw(table: pd.DataFrame, task: Task, inputs: str) -> Figure:
    """Predictions at masked entries at every step (not to scale), a colour for each token that stands there."""
    figure = style.new_figure(style.TEXT_WIDTH, 3.3)
    steps = sorted(table["step"].unique())
    for axes, (quantity, (title, copying, label)) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for _, (onset, completion) in table[["onset", "completion"]].drop_duplicates().dropna().iterrows():
            drop = np.interp([onset, completion], steps, range(len(steps)))
            axes.axvspan(*drop, color="0.5", alpha=0.15, linewidth=0, label="drop", zorder=-1)
        _draw_tokens(axes, table, steps, quantity, copying)
        axes.set_xticks(range(len(steps)), steps, rotation=90)
        axes.set(xlabel=style.STEP_LABEL, ylabel=label, title=title)
    _, to_value, to_truth = figure.axes
    to_value.set_yscale("log")
    to_truth.set_ylim(bottom=0)
    figure.suptitle(f"{inputs}, {style.seeds_text(table)}", size=7.5)
    handles = dict(zip(*reversed(to_value.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return figure


def _draw_tokens(axes: Axes, table: pd.DataFrame, steps: list[int], quantity: str, copying: str | None) -> None:
    tokens = table.drop_duplicates("token_value")["token_value"].sort_values(na_position="first")
    for number, value in enumerate(tokens):
        token_rows = table[table["token_value"].isna() if np.isnan(value) else table["token_value"] == value]
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        label = "MASK (v = 0)" if np.isnan(value) else f"token of v = {value:g}"
        for _, seed_rows in token_rows.groupby("seed"):
            error = seed_rows[f"{quantity}_error"]
            look = {"color": color, "marker": marker, "linewidth": 0.8, "markersize": 3, "label": label}
            style.draw_errors(axes, seed_rows["step"].map(steps.index), seed_rows[quantity], yerr=error, **look)
        if copying:
            axes.axhline(token_rows[copying].iloc[0], color=color, linestyle=(0, (4, 2)), linewidth=0.6, zorder=0)
