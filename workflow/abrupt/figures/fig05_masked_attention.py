"""Mean attention maps when two rows, or two columns, are masked but for one entry each (paper, Figures 5 and 23)."""

import pandas as pd
from matplotlib.figure import Figure, SubFigure

from abrupt.figures import attention_maps, style
from abrupt.storage.attention_files import read_attention
from abrupt.task import Task

PATTERNS = {
    "masked_rows": "two rows masked but for one entry each",
    "masked_columns": "two columns masked but for one entry each",
}
MASK_SIZE = 1.3  # inches
MAX_MAP_SIZE, MAX_WIDTH = 0.95, 4.9  # inches, of the maps


def tidy(task: Task, attention: str) -> pd.DataFrame:
    """One row for each pattern of masks, layer, head, query and key (all from 1): the attention weight, mean over
    matrices, to 5 decimals, and whether the key is observed; all matrices have the pattern's one mask."""
    attributes, patterns = read_attention(attention, ("attention_mean", "sample_observed"))
    tables = []
    for pattern in PATTERNS:
        about = {"seed": int(attributes["seed"]), "step": int(attributes["step"]), "pattern": pattern}
        table = attention_maps.tidy_maps(patterns[pattern]["attention_mean"], **about)
        observed = patterns[pattern]["sample_observed"][0].ravel().astype(bool)
        tables.append(table.assign(key_observed=observed[table["key"] - 1]))
    return pd.concat(tables, ignore_index=True)


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """For each pattern its mask, and beside it the maps of all heads with the mask along their edges."""
    layers, heads = table["layer"].max(), table["head"].max()
    size = min(MAX_MAP_SIZE, MAX_WIDTH / heads)
    block = max(layers * size + 0.6, MASK_SIZE + 0.9)
    figure = style.new_figure(style.TEXT_WIDTH, len(PATTERNS) * block)
    widths = [MASK_SIZE + 0.5, style.TEXT_WIDTH - MASK_SIZE - 0.5]
    blocks = figure.subfigures(len(PATTERNS), 2, width_ratios=widths)
    for (left, right), (pattern, name) in zip(blocks, PATTERNS.items(), strict=True):
        about = f"(seed {table['seed'].iloc[0]}, step {table['step'].iloc[0]})"
        right.suptitle(f"{name} {about}", weight="bold", size=7.5)
        _draw_block(left, right, table[table["pattern"] == pattern], task)
    return figure


def _draw_block(left: SubFigure, right: SubFigure, table: pd.DataFrame, task: Task) -> None:
    observed = table.drop_duplicates("key").sort_values("key")["key_observed"].to_numpy()
    mask = left.subplots()
    shape = (task.rows, task.columns)
    mask.imshow(observed.reshape(shape), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    mask.set(xlabel="column", ylabel="row", title="mask of every matrix\n(black: masked)")
    mask.set_xticks(range(shape[1]), range(1, shape[1] + 1))
    mask.set_yticks(range(shape[0]), range(1, shape[0] + 1))
    mask.tick_params(length=0)
    mask.spines[:].set_visible(True)
    attention_maps.draw_strong_grid(right, table, task, observed)
    right.supxlabel("key position, row by row (strip above: masked keys black)", size=7.5)
    right.supylabel("query position (strip: masked queries black)", size=7.5)
