"""The task: a low-rank matrix, its random mask, and the tokens that the model sees."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from abrupt.figures import style
from abrupt.storage.attention_files import read_attention
from abrupt.task import MASK_TOKEN, Task

MAX_TOKENS_A_LINE = 56


def tidy(task: Task, attention: str) -> pd.DataFrame:
    """One row for each entry of one held-out matrix: row, column and position (from 1), value, observed, token."""
    names = ("sample_matrix", "sample_observed", "sample_tokens")
    attributes, patterns = read_attention(attention, names)
    matrix, observed, tokens = (patterns["random"][name][0] for name in names)
    row, column = np.divmod(np.arange(matrix.size), task.columns)
    return pd.DataFrame(
        {
            "seed": int(attributes["seed"]),
            "row": row + 1,
            "column": column + 1,
            "value": matrix.ravel().astype(float).round(task.decimals) + 0.0,  # no -0
            "observed": observed.ravel().astype(bool),
            "position": np.arange(matrix.size) + 1,
            "token": tokens,
        }
    )


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """Matrix, mask and token sequence from left to right and below."""
    rows, columns, decimals = task.rows, task.columns, task.decimals
    row_tokens = columns * min(rows, max(1, MAX_TOKENS_A_LINE // columns))
    lines = -(-len(table) // row_tokens)
    figure = style.new_figure(style.TEXT_WIDTH, 0.9 + 2.4 * min(rows / columns, 1.5) + 0.75 * lines)
    top, bottom = figure.subfigures(2, 1, height_ratios=[2.4 * min(rows / columns, 1.5) + 0.5, 0.75 * lines + 0.4])
    left, right = top.subplots(1, 2)
    value, observed = style.grid(table, "value"), style.grid(table, "observed")
    limit = np.abs(value).max()
    for axes, seen in [(left, np.ones_like(observed)), (right, observed)]:
        shown = np.where(seen, value, np.nan)
        axes.set_facecolor("0.9")
        style.draw_matrix(axes, shown, observed, cmap=style.VALUE_COLORS, vmin=-limit, vmax=limit)
        for (row, column), number in np.ndenumerate(value):
            text = f"{number:.{decimals}f}" if seen[row, column] else "M"
            color = "white" if seen[row, column] and number < 0.1 * limit else "black"
            axes.text(column, row, text, ha="center", va="center", size=6.5, color=color)
        axes.set(xlabel="column", ylabel="row")
    left.set_title(f"1. true matrix $X = UV^T$, rank {task.rank}, {decimals} decimals")
    right.set_title(f"2. mask: each entry is masked (M) with probability {task.mask_probability}")
    arrow = {"arrowstyle": "-|>", "color": "black"}
    left.annotate("", (1.2, 0.5), (1.04, 0.5), xycoords="axes fraction", arrowprops=arrow)
    strip = bottom.subplots()
    _draw_tokens(strip, table, columns, row_tokens, lines)
    formula = f"1 + {10**decimals} (x + {task.max_value})"
    strip.set_title(
        f"3. ↓ the model's input: {len(table)} token ids, row by row; "
        f"id = {formula} for an observed x, 0 for M (MASK). Target: every entry of X"
    )
    return figure


def _draw_tokens(axes: Axes, table: pd.DataFrame, columns: int, row_tokens: int, lines: int) -> None:
    for position, token, row, column in zip(
        table["position"], table["token"], table["row"], table["column"], strict=True
    ):
        line, x = divmod(position - 1, row_tokens)
        masked = token == MASK_TOKEN
        box = Rectangle((x, line), 1, 0.7, facecolor="0.9" if masked else "white", edgecolor="0.6", linewidth=0.5)
        axes.add_patch(box)
        axes.text(x + 0.5, line + 0.35, "M" if masked else token, rotation=90, ha="center", va="center", size=6.5)
        if column == 1:
            axes.add_patch(Rectangle((x, line), columns, 0.7, fill=False, linewidth=1.2, zorder=2))
            axes.text(x + columns / 2, line + 0.73, f"row {row}", ha="center", va="top", size=6.5)
    axes.set(xlim=(-0.1, row_tokens + 0.1), ylim=(lines, -0.05))
    axes.set_axis_off()
