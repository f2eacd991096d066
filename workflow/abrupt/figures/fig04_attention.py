"""Mean attention maps of all heads, before, during and after the drop (paper, Figure 4)."""

import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import attention_maps, style
from abrupt.task import Task

MAX_MAP_SIZE, MAX_WIDTH, MAX_HEIGHT = 0.95, 6.2, 7.2  # inches, of the maps


def tidy(task: Task, training: str, attention: list[str]) -> pd.DataFrame:
    """One row for each telling step, layer, head, query and key (all from 1): the attention weight, mean
    over matrices, to 5 decimals; `mse_masked` is the training loss at that step."""
    return attention_maps.tidy_snapshots(style.read_snapshots(task, training, attention, ("attention_mean",)))


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """A block of layers x heads maps for each step, and what ideal heads look like (Figure 4)."""
    steps = table["step"].unique()
    layers, heads = table["layer"].max(), table["head"].max()
    size = min(MAX_MAP_SIZE, MAX_WIDTH / heads, MAX_HEIGHT / (layers * len(steps)))
    block, key = layers * size + 0.5, 1.35
    figure = style.new_figure(max(heads * size, 3.4) + 1.0, len(steps) * block + key)
    *blocks, last = figure.subfigures(len(steps) + 1, 1, height_ratios=[block] * len(steps) + [key])
    for subfigure, step in zip(blocks, steps, strict=True):
        at_step = table[table["step"] == step]
        attention_maps.draw_strong_grid(subfigure, at_step, task)
        subfigure.suptitle(attention_maps.step_title(at_step, "; "), weight="bold", size=7.5)
    attention_maps.draw_key(last, task)
    return figure
