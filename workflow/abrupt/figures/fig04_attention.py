"""Mean attention maps of all heads, before, during and after the drop (paper, Figures 4 and 22)."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from abrupt.figures import style

CAP_QUANTILE = 0.99  # darkest colour: a single peak must not hide the rest
MAX_MAP_SIZE, MAX_WIDTH, MAX_HEIGHT = 0.95, 6.2, 7.2  # inches, of the maps


def tidy(task: dict[str, Any], training: str, attention: list[str]) -> pd.DataFrame:
    """One row for each telling step, layer, head, query and key (all from 1): the attention weight, mean
    over matrices, to 5 decimals; `mse_masked` is the training loss at that step."""
    length = task["rows"] * task["columns"]
    tables = []
    for snapshot in style.read_snapshots(task, training, attention, ("attention_mean",)):
        maps = snapshot.arrays["attention_mean"]
        layer, head, query, key = (index.ravel() + 1 for index in np.indices((*maps.shape[:2], length, length)))
        of_step = {"seed": snapshot.seed, "step": snapshot.step, "label": snapshot.label}
        of_step["mse_masked"] = snapshot.mse_masked
        weight = maps.ravel().astype(float).round(5)
        columns = {"layer": layer, "head": head, "query": query, "key": key, "attention": weight}
        tables.append(pd.DataFrame(of_step | columns))
    return pd.concat(tables, ignore_index=True)


@style.styled
def draw(table: pd.DataFrame, task: dict[str, Any]) -> Figure:
    """A block of layers x heads maps for each step, and what ideal heads look like (Figures 4 and 22)."""
    steps = table["step"].unique()
    layers, heads = table["layer"].max(), table["head"].max()
    size = min(MAX_MAP_SIZE, MAX_WIDTH / heads, MAX_HEIGHT / (layers * len(steps)))
    block, key = layers * size + 0.5, 1.35
    figure = style.new_figure(max(heads * size, 3.4) + 1.0, len(steps) * block + key)
    *blocks, last = figure.subfigures(len(steps) + 1, 1, height_ratios=[block] * len(steps) + [key])
    for subfigure, step in zip(blocks, steps, strict=True):
        _draw_block(subfigure, table[table["step"] == step], task, layers, heads)
    _draw_key(last, task)
    return figure


def _draw_block(subfigure: SubFigure, table: pd.DataFrame, task: dict[str, Any], layers: int, heads: int) -> None:
    length = task["rows"] * task["columns"]
    maps = table.sort_values(["layer", "head", "query", "key"])["attention"].to_numpy()
    maps = maps.reshape(layers, heads, length, length)
    cap = np.quantile(maps, CAP_QUANTILE)
    axes = subfigure.subplots(layers, heads, squeeze=False)
    for (layer, head), panel in np.ndenumerate(axes):
        image = _draw_map(panel, maps[layer, head], task, cap)
        if layer == 0:
            panel.set_title(f"head {head + 1}", pad=2)
        if head == 0:
            panel.set_ylabel(f"layer {layer + 1}")
    bar = subfigure.colorbar(image, ax=axes, extend="max", pad=0.01, aspect=15 * layers / 2)
    bar.set_ticks([0, cap / 2, cap], labels=["0", f"{cap / 2:.2g}", f"≥ {cap:.2g}"])
    bar.ax.axhline(1 / length, color="white", path_effects=[patheffects.withStroke(linewidth=2.5, foreground="black")])
    bar.set_label(f"attention weight\n(white line: uniform, {1 / length:.2g})")
    about = table.iloc[0]
    loss = "" if np.isnan(about["mse_masked"]) else f"; masked-entry MSE {about['mse_masked']:.2g}"
    subfigure.suptitle(f"step {about['step']} ({about['label']}{loss})", weight="bold", size=7.5)


def _draw_map(axes: Axes, weights: np.ndarray, task: dict[str, Any], cap: float) -> Any:
    """One map with lines where a matrix row begins."""
    image = axes.imshow(weights, cmap=style.MAGNITUDE_COLORS, vmin=0, vmax=cap, interpolation="nearest")
    for row in range(1, task["rows"]):
        boundary = row * task["columns"] - 0.5
        axes.axhline(boundary, color="0.6", linewidth=0.25)
        axes.axvline(boundary, color="0.6", linewidth=0.25)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    return image


def _draw_key(subfigure: SubFigure, task: dict[str, Any]) -> None:
    rows, columns = task["rows"], task["columns"]
    ideals = {
        "same row": np.kron(np.eye(rows), np.ones((columns, columns))),
        "same column": np.kron(np.ones((rows, rows)), np.eye(columns)),
        "itself": np.eye(rows * columns),
    }
    axes = subfigure.subplots(1, len(ideals))
    for panel, (name, ideal) in zip(axes, ideals.items(), strict=True):
        _draw_map(panel, ideal, task, 1)
        panel.set_title(name, pad=2)
        panel.set_xlabel("key position")
    axes[0].set_ylabel("query position")
    subfigure.suptitle("how to read a map: a head that attends to …", size=7.5)
