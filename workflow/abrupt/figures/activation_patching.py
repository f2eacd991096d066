"""What activations carry: those of -X patched into the model that reads X (of the authors' released analyses)."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.scores.heads import head_groups, overall_scores
from abrupt.task import Task

HIDDEN = {
    "hidden_observed": {"color": "#E69F00", "marker": "P", "label": "hidden, observed entries"},
    "hidden_masked": {"color": "black", "marker": "s", "label": "hidden, masked entries"},
}
ENTRIES = {"masked": "full", "observed": "none"}
LAYER = {"color": "black", "marker": "*", "markersize": 7}


def tidy(task: Task, activation_patching: list[str], head_scores: list[str]) -> pd.DataFrame:
    """The tables of the analysis, one below the other, with the group that each head belongs to at the last step."""
    groups = []
    for path in head_scores:
        scores = overall_scores(pd.read_csv(path))
        last = scores[scores["step"] == scores["step"].max()]
        groups.append(head_groups(last).reset_index().assign(seed=last["seed"].iloc[0]))
    table = pd.concat([pd.read_csv(path) for path in activation_patching], ignore_index=True)
    return table.merge(pd.concat(groups), how="left", on=["seed", "layer", "head"])


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """A row for each step: hidden states patched after each layer; what each head, and each layer's heads, read."""
    steps = sorted(table["step"].unique())
    figure = style.new_figure(style.TEXT_WIDTH, 0.8 + 2.3 * len(steps))
    axes = figure.subplots(len(steps), 2, squeeze=False, sharex="col", sharey=True, width_ratios=[1, 2])
    for (left, right), step in zip(axes, steps, strict=True):
        at_step = table[table["step"] == step]
        _draw_hidden(left, at_step)
        _draw_heads(right, at_step)
        difference = style.values_text(at_step["difference_masked"])
        left.set_title(f"step {step}: hidden states of −X")
        right.set_title(f"step {step}: what heads read on −X (masked entries: {difference} apart, rms)")
        left.set_ylabel("effect on the prediction\n(0: as on X, 1: as on −X)")
        for panel in (left, right):
            for level in (0, 1):
                panel.axhline(level, color=style.GREY, linewidth=0.8, linestyle=(0, (1, 1)), zorder=0)
    axes[-1, 0].set_xlabel("after layer (0: embeddings)")
    axes[-1, 1].set_xlabel(f"head, or all heads of a layer, {style.seeds_text(table)}")
    _draw_legend(figure, axes[0, 0], table)
    return figure


def _draw_hidden(axes: Axes, table: pd.DataFrame) -> None:
    """The effect at masked entries (filled, solid) and at observed ones."""
    for site, look in HIDDEN.items():
        for _, seed_rows in table[table["site"] == site].groupby("seed"):
            for entries, fill in ENTRIES.items():
                _draw_effect(
                    axes,
                    seed_rows["layer"],
                    seed_rows,
                    entries,
                    fill,
                    color=look["color"],
                    marker=look["marker"],
                    linestyle="-" if entries == "masked" else ":",
                )
    axes.set_xticks(range(int(table["layer"].max()) + 1))


def _draw_effect(axes: Axes, x: Any, table: pd.DataFrame, entries: str, fill: str, **look: Any) -> None:
    error = table[f"effect_{entries}_se"]
    look = {"markersize": 4, "linewidth": 0.9, "markeredgewidth": 0.8, **look}
    style.draw_errors(axes, x, table[f"effect_{entries}"], yerr=error, fillstyle=fill, **look)


def _draw_heads(axes: Axes, table: pd.DataFrame) -> None:
    """Heads from left to right, behind those of a layer all of them together, and last all of all layers."""
    shown = table[table["site"].isin(["head", "attention", "all_attention"])]
    order = shown.assign(
        head=shown["head"].fillna(shown["head"].max() + 1), layer=shown["layer"].fillna(shown["layer"].max() + 1)
    )
    places = (
        order[["layer", "head"]].drop_duplicates().sort_values(["layer", "head"]).itertuples(index=False, name=None)
    )
    x = {place: index for index, place in enumerate(places)}
    order["x"] = [x[place] for place in order[["layer", "head"]].itertuples(index=False, name=None)]
    for _, row in order.iterrows():
        look = style.HEAD_GROUPS[row["group"]] if row["site"] == "head" else LAYER
        for entries, fill in ENTRIES.items():
            _draw_effect(axes, [row["x"]], row.to_frame().T, entries, fill, linestyle="none", **look)
    named = order.drop_duplicates("x").sort_values("x")
    labels = {"head": "L{layer:.0f}H{head:.0f}", "attention": "all of L{layer:.0f}", "all_attention": "all layers"}
    axes.set_xticks(named["x"], [labels[row["site"]].format(**row) for _, row in named.iterrows()], rotation=90)
    axes.grid(axis="x", color="0.92", linewidth=0.5)


def _draw_legend(figure: Figure, axes: Axes, table: pd.DataFrame) -> None:
    looks = {look["label"]: {"color": look["color"], "marker": look["marker"]} for look in HIDDEN.values()}
    groups = [group for group in style.HEAD_GROUPS if group in set(table["group"])]
    looks |= {f"{group.replace('_', ' ')} head": style.HEAD_GROUPS[group] for group in groups}
    looks |= {"all heads of a layer": LAYER}
    looks |= {
        f"effect on {entries} entries": {"color": "black", "marker": "o", "fillstyle": fill}
        for entries, fill in ENTRIES.items()
    }
    handles = [axes.plot([], [], linestyle="none", **look)[0] for look in looks.values()]
    figure.legend(handles, looks, loc="outside lower center", ncols=4)
