"""Heads ranked by what they attend to, before the drop and at the end (the claim of the paper's Figure 4)."""

import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.scores.heads import overall_scores
from abrupt.task import Task

LAST = "last"


def tidy(task: Task, training: list[str], head_scores: list[str]) -> pd.DataFrame:
    """One row for each seed, key group, head and telling step: its score and its rank within seed and
    key group, by the score at the last step. Random masks, all queries."""
    curves = dict(list(style.read_training(training).groupby("seed")))
    scores = pd.concat([pd.read_csv(path) for path in head_scores], ignore_index=True)
    scores = overall_scores(scores)
    tables = []
    for seed, seed_rows in scores.groupby("seed"):
        labels = style.labelled_steps(style.find_drop(curves[seed], task), seed_rows["step"].unique().tolist())
        first, last = min(labels), max(labels)
        at_last = seed_rows[seed_rows["step"] == last].set_index(["key_group", "layer", "head"])["score"]
        rank = at_last.groupby("key_group").rank(ascending=False, method="first").astype(int).rename("rank")
        for step, label in {first: labels[first], last: LAST}.items():
            shown = seed_rows[seed_rows["step"] == step].join(rank, on=rank.index.names)
            tables.append(shown.assign(label=label))
    columns = ["seed", "step", "label", "key_group", "rank", "layer", "head", "share", "uniform_share", "score"]
    return pd.concat(tables, ignore_index=True)[columns]


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """A panel for each key group, heads from the highest score at the last step down."""
    groups, heads = table["key_group"].unique(), table["rank"].max()
    figure = style.new_figure(style.TEXT_WIDTH, 1.1 + 0.12 * max(heads, 10))
    axes = figure.subplots(1, len(groups))
    one_seed = table["seed"].nunique() == 1
    for panel, group in zip(axes, groups, strict=True):
        group_rows = table[table["key_group"] == group].sort_values("rank")
        uniform = panel.axvline(0, color=style.GREY, linewidth=0.8, linestyle=(0, (1, 1)), zorder=0)
        for _, seed_rows in group_rows.groupby("seed"):
            last, before = seed_rows["label"] == LAST, seed_rows["label"] != LAST
            (end,) = panel.plot(
                seed_rows["score"][last], seed_rows["rank"][last], "o-", color="#0072B2", markersize=3.5, linewidth=0.6
            )
            (start,) = panel.plot(
                seed_rows["score"][before], seed_rows["rank"][before], "D", color="#D55E00", mfc="white", markersize=3
            )
        names = [
            f"L{layer}H{head}" for layer, head in zip(seed_rows["layer"][last], seed_rows["head"][last], strict=True)
        ]
        panel.set_yticks(range(1, heads + 1), names if one_seed else range(1, heads + 1))
        panel.tick_params(axis="y", length=0, labelsize=6.5)
        panel.set_ylim(heads + 0.6, 0.4)
        panel.set_xlim(min(-0.2, 1.1 * group_rows["score"].min()), 1.05)
        panel.set_title("keys: " + group.replace("_", " "))
        panel.grid(axis="y", color="0.92", linewidth=0.5)
    axes[0].set_ylabel(
        f"{'head (layer L, head H)' if one_seed else 'rank of head within its seed'}, {style.seeds_text(table)}"
    )
    figure.supxlabel(
        "score = (share of attention − uniform share) / (1 − uniform share); at 1 all attention is on these keys",
        size=7.5,
    )
    is_last = table["label"] == LAST
    marked = [(mark, part) for mark, part in [(start, table[~is_last]), (end, table[is_last])] if len(part)]
    handles, labels = [mark for mark, _ in marked], [_describe(part) for _, part in marked]
    figure.legend([*handles, uniform], [*labels, "uniform attention"], loc="outside upper center", ncols=3)
    return figure


def _describe(table: pd.DataFrame) -> str:
    """'before the drop (step 2500)', or the range of steps if seeds differ."""
    return f"{' or '.join(table['label'].unique())} (step {style.span_text(table['step'])})"
