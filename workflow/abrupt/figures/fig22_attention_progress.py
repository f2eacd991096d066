"""Mean attention maps of all heads over training, against uniform attention (paper, Figure 22)."""

from itertools import chain

import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from abrupt.figures import attention_maps, style
from abrupt.task import Task

MAX_MAP_SIZE, MIN_MAP_SIZE = 0.62, 0.4  # inches
LEFT, TOP, BOTTOM = 0.22, 0.52, 0.6  # inches, around the maps of a step
MAX_ACROSS = 3
DARKEST = 6  # times uniform attention: one scale for all steps


def tidy(task: Task, training: str, attention: list[str]) -> pd.DataFrame:
    """One row for each of up to six steps, layer, head, query and key (all from 1): the attention weight, mean
    over matrices, to 5 decimals; `mse_masked` is the training loss at that step."""
    return attention_maps.tidy_snapshots(
        style.read_snapshots(task, training, attention, ("attention_mean",), style.progress_steps)
    )


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """A block of layers x heads maps for each step, all with one colour scale (Figure 22)."""
    steps = table["step"].unique()
    layers, heads, length = (table[name].max() for name in ("layer", "head", "key"))
    across = min(MAX_ACROSS, len(steps), max(1, int(style.TEXT_WIDTH / (MIN_MAP_SIZE * heads))))
    down = -(-len(steps) // across)
    width = style.TEXT_WIDTH / across
    size = min(MAX_MAP_SIZE, (width - LEFT - 0.05) / heads)
    block = layers * size + TOP
    figure = style.new_figure(style.TEXT_WIDTH, down * block + BOTTOM)
    figure.set_layout_engine("none")  # all places are known, and constrained layout has none for so many small axes
    *rows, below = figure.subfigures(down + 1, across, squeeze=False, height_ratios=[block] * down + [BOTTOM])
    left = LEFT / width
    grid = {"left": left, "right": left + heads * size / width, "top": 1 - TOP / block, "bottom": 0.02}
    norm = Normalize(0, DARKEST)
    for place, step in zip(chain(*rows), steps, strict=False):
        at_step = table[table["step"] == step]
        maps = attention_maps.stacked(at_step) * length
        _, image = attention_maps.draw_grid(place, maps, task, norm, gridspec_kw={**grid, "wspace": 0.1, "hspace": 0.1})
        place.suptitle(attention_maps.step_title(at_step, "\n"), weight="bold", size=7.5, y=1 - 0.03 / block)
    place = below[across // 2]
    bar = place.colorbar(
        image, cax=place.add_axes((left, 0.65, 0.9 - left, 0.2)), orientation="horizontal", extend="max"
    )
    bar.set_ticks([0, 1, DARKEST / 2, DARKEST], labels=["0", "1", f"{DARKEST / 2:g}", f"≥ {DARKEST}"])
    bar.set_label(f"attention weight / uniform attention (1/{length}), seed {table['seed'].iloc[0]}")
    return figure
