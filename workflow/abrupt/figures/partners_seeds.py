"""The map of partners of every seed at its rest, and whether it predicts where the loss rests (ours)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.figures.partners import KINDS, draw_key, draw_map, read_seed
from abrupt.scores import partners as scores
from abrupt.task import Task

ACROSS = 5  # maps in a row
TOLERANCE = 0.1  # of the claim


def tidy(task: Task, training: list[str], partners: list[str]) -> pd.DataFrame:
    """The map of each seed at its rest, as from `abrupt.scores.partners.describe`, with columns seed and step, and its
    levels: seen, predicted from the map, and any_line, the same if ratios were read from every shared line."""
    tables = []
    for of_training, of_partners in zip(training, partners, strict=True):
        _, table, shown = read_seed(task, of_training, of_partners)
        step = shown["rest"]
        level = scores.predicted_level(
            task, scores.partner_map(table, task, step), scores.needed_map(table, task, step)
        )
        levels = {"seen": scores.seen_level(table, step), "predicted": level.mse, "any_line": level.any_line}
        tables.append(scores.describe(table, task, step).assign(seed=table["seed"].iloc[0], step=step, **levels))
    return pd.concat(tables, ignore_index=True)


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """The maps above, the shares of kinds of queries and the levels below."""
    seeds = list(table.groupby("seed"))
    down = -(-len(seeds) // ACROSS)
    figure = style.new_figure(style.TEXT_WIDTH, 1.8 * down + 0.5 + 2.3)
    above, below = figure.subfigures(2, 1, height_ratios=[1.8 * down + 0.5, 2.3])
    panels = above.subplots(down, ACROSS, squeeze=False)
    for axes in panels.flat[len(seeds) :]:
        axes.set_axis_off()
    for axes, (seed, of_seed) in zip(panels.flat, seeds, strict=False):
        draw_map(axes, of_seed, task)
        axes.set_title(f"seed {seed}, step {of_seed['step'].iloc[0]}", pad=7)
    draw_key(above, set(table["kind"]), "outside lower center")
    shares, levels = below.subplots(1, 2, width_ratios=[1, 1.2])
    _draw_shares(shares, seeds, task)
    _draw_levels(levels, table.drop_duplicates("seed"))
    return figure


def _draw_shares(axes: Axes, seeds: list[tuple[int, pd.DataFrame]], task: Task) -> None:
    """What queries hang on, a bar a seed, and of how many each seed has exactly one partner."""
    for place, (_, of_seed) in enumerate(seeds):
        queries = of_seed.drop_duplicates(["row", "column"])
        left = 0.0
        for kind, look in KINDS.items():
            share = (queries["kind"] == kind).mean()
            axes.barh(place, share, left=left, color=look["color"], height=0.6, edgecolor="none")
            left += share
        axes.annotate(
            f"{(queries['count'] == 1).mean():.0%}", (1.02, place), va="center", size=7, annotation_clip=False
        )
    axes.set_yticks(range(len(seeds)), [f"seed {seed}" for seed, _ in seeds])
    axes.set(xlim=(0, 1), ylim=(len(seeds) - 0.5, -0.5), xlabel="share of queries (right: with exactly one partner)")


def _draw_levels(axes: Axes, levels: pd.DataFrame) -> None:
    values = levels[["seen", "predicted", "any_line"]].to_numpy()
    low, high = 0.85 * np.nanmin(values), 1.15 * np.nanmax(values)
    ends = np.array([low, high])
    axes.fill_between(
        ends, (1 - TOLERANCE) * ends, (1 + TOLERANCE) * ends, color="0.9", linewidth=0, label="within 10 %"
    )
    axes.plot(ends, ends, color=style.GREY, linewidth=0.7)
    axes.plot(levels["any_line"], levels["seen"], "o", color="0.45", mfc="white", label="ratio from any shared line")
    axes.plot(levels["predicted"], levels["seen"], "o", color="black", label="ratio from lines that the map reads")
    for _, row in levels.iterrows():
        axes.annotate(
            f"{row['seed']:.0f}", (row["predicted"], row["seen"]), xytext=(4, 2), textcoords="offset points", size=6
        )
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel="masked-entry MSE predicted", ylabel="seen")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
