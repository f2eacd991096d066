"""Mean attention maps of all heads: what the figures that show them share."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import SubFigure

from abrupt.figures import style
from abrupt.task import Task

# The darkest colour stands for this quantile of the weights, so that a single peak does not hide the rest.
CAP_QUANTILE = 0.99


def tidy_maps(maps: np.ndarray, **about: Any) -> pd.DataFrame:
    """One row for each layer, head, query and key (all from 1) of `maps` (layers, heads, T, T): the attention
    weight to 5 decimals, behind constant columns `about`."""
    layer, head, query, key = (index.ravel() + 1 for index in np.indices(maps.shape))
    weight = maps.ravel().astype(float).round(5)
    return pd.DataFrame({**about, "layer": layer, "head": head, "query": query, "key": key, "attention": weight})


def tidy_snapshots(snapshots: Iterable[style.Snapshot]) -> pd.DataFrame:
    """`tidy_maps` of several snapshots with `attention_mean`: columns seed, step, label and mse_masked in front."""
    tables = []
    for snapshot in snapshots:
        about = {name: getattr(snapshot, name) for name in ("seed", "step", "label", "mse_masked")}
        tables.append(tidy_maps(snapshot.arrays["attention_mean"], **about))
    return pd.concat(tables, ignore_index=True)


def step_title(table: pd.DataFrame, separator: str) -> str:
    """'step 4000 (mid-drop)', and behind `separator` the training loss, from a table of one step as from
    `tidy_snapshots`."""
    about = table.iloc[0]
    loss = about["mse_masked"]
    loss = "no loss logged yet" if np.isnan(loss) else f"masked-entry MSE {loss:.2g}"
    return f"step {about['step']} ({about['label']}){separator}{loss}"


def stacked(table: pd.DataFrame) -> np.ndarray:
    """The maps in a table as from `tidy_maps`, (layers, heads, T, T)."""
    ordered = table.sort_values(["layer", "head", "query", "key"])
    shape = [ordered[name].max() for name in ("layer", "head", "query", "key")]
    return ordered["attention"].to_numpy().reshape(shape)


def draw_grid(
    subfigure: SubFigure,
    maps: np.ndarray,
    task: Task,
    norm: Normalize,
    observed: np.ndarray | None = None,
    **subplots: Any,
) -> Any:
    """A grid of maps, a row a layer. Returns the axes and the last image, for a colour bar."""
    layers, heads = maps.shape[:2]
    axes = subfigure.subplots(layers, heads, squeeze=False, **subplots)
    for (layer, head), panel in np.ndenumerate(axes):
        image = draw_map(panel, maps[layer, head], task, norm, observed)
        if layer == 0:
            panel.set_title(f"head {head + 1}", pad=2)
        if head == 0:
            panel.set_ylabel(f"layer {layer + 1}")
    return axes, image


def draw_map(
    axes: Axes,
    weights: np.ndarray,
    task: Task,
    norm: Normalize,
    observed: np.ndarray | None = None,
) -> Any:
    """One map with lines where a matrix row begins; with `observed` (T,), strips at its edges are black where the
    query (left) or the key (above) is masked. Returns the image."""
    length = len(weights)
    image = axes.imshow(weights, cmap=style.MAGNITUDE_COLORS, norm=norm, interpolation="nearest")
    for row in range(1, task.rows):
        boundary = row * task.columns - 0.5
        axes.axhline(boundary, color="0.6", linewidth=0.25)
        axes.axvline(boundary, color="0.6", linewidth=0.25)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    if observed is not None:
        near, far, end = -1, -1 - 0.07 * length, length - 0.5
        look = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
        axes.imshow(observed[None], extent=(-0.5, end, near, far), **look)
        axes.imshow(observed[:, None], extent=(far, near, end, -0.5), **look)
        axes.set(xlim=(far, end), ylim=(end, far))
    return image


def draw_strong_grid(subfigure: SubFigure, table: pd.DataFrame, task: Task, observed: np.ndarray | None = None) -> None:
    """The grid of the maps in `table`, with a colour scale of its own from 0 to where a hundredth of the weights is
    above it, and its bar, on which uniform attention is marked."""
    maps = stacked(table)
    cap = np.quantile(maps, CAP_QUANTILE)
    axes, image = draw_grid(subfigure, maps, task, Normalize(0, cap), observed=observed)
    uniform = 1 / maps.shape[-1]
    bar = subfigure.colorbar(image, ax=axes, extend="max", pad=0.01, aspect=15 * len(maps) / 2)
    bar.set_ticks([0, cap / 2, cap], labels=["0", f"{cap / 2:.2g}", f"≥ {cap:.2g}"])
    bar.ax.axhline(uniform, color="white", path_effects=[patheffects.withStroke(linewidth=2.5, foreground="black")])
    bar.set_label(f"attention weight\n(white line: uniform, {uniform:.2g})")


def draw_key(subfigure: SubFigure, task: Task) -> None:
    """What ideal heads look like."""
    rows, columns = task.rows, task.columns
    ideals = {
        "same row": np.kron(np.eye(rows), np.ones((columns, columns))),
        "same column": np.kron(np.ones((rows, rows)), np.eye(columns)),
        "itself": np.eye(rows * columns),
    }
    axes = subfigure.subplots(1, len(ideals))
    for panel, (name, ideal) in zip(axes, ideals.items(), strict=True):
        draw_map(panel, ideal, task, Normalize(0, 1))
        panel.set_title(name, pad=2)
        panel.set_xlabel("key position")
    axes[0].set_ylabel("query position")
    subfigure.suptitle("how to read a map: a head that attends to …", size=7.5)
