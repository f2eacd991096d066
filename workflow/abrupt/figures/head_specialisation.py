"""When heads specialise, beside the loss on one axis of steps (the course of the paper's Figure 4)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.scores.drop import Drop
from abrupt.scores.heads import HEAD_GROUPS, OTHER, SPECIALISED_SCORE, head_groups, overall_scores, specialisation_steps
from abrupt.task import Task

LOSS = "mse_masked"
SHOWN = [group for group in HEAD_GROUPS if group != OTHER]


def tidy(task: Task, training: list[str], head_scores: list[str]) -> pd.DataFrame:
    """Columns seed, step, quantity, value, layer, head, group, specialised_at. The quantity is mse_masked for every
    logged step, and the scores on the key groups same_row, same_column, self and observed for every extracted step
    and head, over all queries of random masks.

    group is the head's at the last step, specialised_at the first step from which on it scores half of its last
    score on that group or more (nan for heads in `other`).
    """
    loss = style.read_training(training).rename(columns={LOSS: "value"}).assign(quantity=LOSS)
    tables = [loss[["seed", "step", "quantity", "value"]]]
    for path in head_scores:
        scores = overall_scores(pd.read_csv(path))
        groups = head_groups(scores[scores["step"] == scores["step"].max()])
        at = specialisation_steps(scores).set_index(["layer", "head"])["step"].rename("specialised_at")
        shown = (
            scores[scores["key_group"].isin(SHOWN)].join(groups, on=["layer", "head"]).join(at, on=["layer", "head"])
        )
        shown = shown.rename(columns={"key_group": "quantity", "score": "value"})
        tables.append(shown[["seed", "step", "quantity", "value", "layer", "head", "group", "specialised_at"]])
    return pd.concat(tables, ignore_index=True)


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """A column for each seed: its loss, below it the scores of all heads on each group of keys."""
    seeds = sorted(table["seed"].unique())
    figure = style.new_figure(style.TEXT_WIDTH, 6.6)
    axes = figure.subplots(1 + len(SHOWN), len(seeds), squeeze=False, sharey="row", sharex="col")
    for column, seed in zip(axes.T, seeds, strict=True):
        seed_rows = table[table["seed"] == seed]
        loss = seed_rows[seed_rows["quantity"] == LOSS]
        drop = style.find_drop(loss.rename(columns={"value": LOSS}), task)
        last = loss["step"].max()
        end = min(last, 2 * drop.completion) if drop.found else last
        _draw_loss(column[0], loss[loss["step"] <= end], drop, task)
        column[0].set(xlim=(0, end), title=f"seed {seed}")
        for panel, group in zip(column[1:], SHOWN, strict=True):
            _draw_scores(panel, seed_rows[seed_rows["quantity"] == group], group, end)
            if drop.found:
                panel.axvspan(drop.onset, drop.completion, color="0.5", alpha=0.15, linewidth=0, zorder=-1)
        column[-1].set_xlabel(style.STEP_LABEL)
    axes[0, 0].set_ylabel("masked-entry MSE")
    for panel, group in zip(axes[1:, 0], SHOWN, strict=True):
        panel.set_ylabel(f"score on\n{group.replace('_', ' ')}")
    figure.supylabel("score: 0 = as much attention on these keys as uniform attention, 1 = all attention", size=7.5)
    _draw_legend(figure, axes[0, 0])
    return figure


def _draw_loss(axes: Axes, loss: pd.DataFrame, drop: Drop, task: Task) -> None:
    axes.plot(loss["step"], loss["value"], color="black")
    style.draw_plateau(axes, task)
    axes.set_yscale("log")
    if drop.found:
        label = "drop, from onset to completion"
        axes.axvspan(drop.onset, drop.completion, color="0.5", alpha=0.15, linewidth=0, zorder=-1, label=label)


def _draw_scores(axes: Axes, table: pd.DataFrame, group: str, end: int) -> None:
    """Heads of the group in its colour, named at their last score, right of the edge; the others grey."""
    axes.axhline(0, color=style.GREY, linewidth=0.8, linestyle=(0, (1, 1)), zorder=0)
    axes.set_ylim(min(-0.3, 1.1 * table["value"].min()), 1.1)
    for (layer, head), curve in table.groupby(["layer", "head"]):
        own = curve["group"].iloc[0] == group
        curve = curve.sort_values("step")
        color = style.HEAD_GROUPS[group]["color"] if own else "0.75"
        axes.plot(curve["step"], curve["value"], ".-", color=color, markersize=3, linewidth=1.1 if own else 0.5)
        if not own:
            continue
        at = curve[curve["step"] == curve["specialised_at"]]
        axes.plot(at["step"], at["value"], **style.HEAD_GROUPS[group], markersize=6, mfc="white", zorder=3)
        axes.annotate(
            f"L{layer:.0f}H{head:.0f}",
            (end, np.interp(end, curve["step"], curve["value"])),
            (1.05, curve["value"].iloc[-1]),
            textcoords=("axes fraction", "data"),
            arrowprops={"arrowstyle": "-", "linestyle": ":", "color": color, "shrinkA": 0, "shrinkB": 0},
            size=6.5,
            color=color,
            va="center",
        )


def _draw_legend(figure: Figure, loss: Axes) -> None:
    handles, labels = loss.get_legend_handles_labels()
    look = {"linestyle": "none", "markersize": 6, "mfc": "white", "marker": "o", "color": "black"}
    handles += loss.plot([], [], **look) + loss.plot([], [], ".-", color="0.75", linewidth=0.5)
    labels += [
        "from here on half of the last score or more",
        f"heads of other groups (last score below {SPECIALISED_SCORE:g}, or higher elsewhere)",
    ]
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
