"""The decoder's attention before, during and after it learns to copy (paper, Figure 12)."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.figures.attention_maps import CAP_QUANTILE
from abrupt.figures.fig11_gpt_loss import tidy as tidy_training
from abrupt.scores.drop import find_copying
from abrupt.storage.attention_files import read_attention
from abrupt.task import Task


def tidy(task: Task, training: str, attention: list[str]) -> pd.DataFrame:
    """One row for each telling step, layer, head, query and key (all from 1): the attention weight, mean
    over matrices, to 5 decimals. Queries are those that predict the entries of X: query q predicts entry q,
    query 1 stands at SEP. Keys are the T masked entries, SEP, and X but for its last entry."""
    drop = find_copying(tidy_training(task, [training]))
    files = [read_attention(path, ("attention_mean",)) for path in attention]
    maps = {int(attributes["step"]): patterns["random"]["attention_mean"] for attributes, patterns in files}
    tables = []
    for step, label in style.labelled_steps(drop, list(maps)).items():
        predicting = maps[step][:, :, task.rows * task.columns :]
        layer, head, query, key = (index.ravel() + 1 for index in np.indices(predicting.shape))
        columns = {"layer": layer, "head": head, "query": query, "key": key}
        weight = predicting.ravel().astype(float).round(5)
        about = {"seed": int(files[0][0]["seed"]), "step": step, "label": label}
        tables.append(pd.DataFrame({**about, **columns, "attention": weight}))
    return pd.concat(tables, ignore_index=True)


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """A row for each layer and head, a column for each step (Figure 12)."""
    heads = sorted(set(zip(table["layer"], table["head"], strict=True)))
    steps = table["step"].unique()
    figure = style.new_figure(style.TEXT_WIDTH, 1.3 + 1.25 * len(heads))
    grid = figure.subplots(len(heads), len(steps), squeeze=False)
    for column, (_, step_rows) in zip(grid.T, table.groupby("step"), strict=True):
        cap = max(step_rows["attention"].quantile(CAP_QUANTILE), 1e-5)
        for axes, (layer, head) in zip(column, heads, strict=True):
            head_rows = step_rows[(step_rows["layer"] == layer) & (step_rows["head"] == head)]
            weights = head_rows.pivot(index="query", columns="key", values="attention").to_numpy()
            image = _draw_map(axes, weights, cap)
        about = step_rows.iloc[0]
        column[0].set_title(f"step {about['step']} ({about['label']})\n{column[0].get_title()}")
        bar = figure.colorbar(image, ax=column, location="bottom", extend="max", aspect=30, pad=0.02)
        bar.set_ticks([0, cap], labels=["0", f"≥ {cap:.2g}"])
        bar.set_label("attention weight", labelpad=-6)
    for axes, (layer, head) in zip(grid[:, 0], heads, strict=True):
        axes.set_ylabel(f"layer {layer}, head {head}\nquery: SEP, X")
    return figure


def shares(weights: np.ndarray) -> tuple[float, float]:
    """Mean weight that a query gives to the entry it predicts, in the masked X, and to SEP; (T, 2T) -> two
    numbers in [0, 1]."""
    entries = len(weights)
    return float(np.diagonal(weights).mean()), float(weights[:, entries].mean())


def _draw_map(axes: Axes, weights: np.ndarray, cap: float) -> Any:
    image = axes.imshow(weights, cmap=style.MAGNITUDE_COLORS, vmin=0, vmax=cap, interpolation="nearest")
    entries = len(weights)
    for edge in (entries - 0.5, entries + 0.5):
        axes.axvline(edge, color="0.6", linewidth=0.25)
    axes.set_xticks([entries / 2, entries, 1.5 * entries], ["masked X", "SEP", "X"])
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(True)
    predicted, separator = shares(weights)
    axes.set_title(f"predicted entry {predicted:.2f}, SEP {separator:.2f}", pad=2)
    return image
