"""A decoder on [masked X, SEP, X]: when it learns to copy (paper, Figure 11)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.scores.drop import Drop, find_copying
from abrupt.task import Task

GROUPS = {
    "observed": {"color": "#56B4E9", "linestyle": (0, (5, 1, 1, 1))},
    "masked": {"color": "#D55E00", "linestyle": "-"},
}


def tidy(task: Task, training: list[str]) -> pd.DataFrame:
    """One row for each seed and logged step: cross-entropy (nats) and accuracy at observed and at masked
    entries, means over the updates since the row before; of held-out matrices, where evaluated, the MSE of
    the expected value at masked entries and the entropy of an entry's marginal law."""
    table = style.read_training(training).rename(columns=lambda name: name.removeprefix("eval_"))
    # Some quantities are logged twice; the first column is that of the training batches.
    table = table.loc[:, ~table.columns.duplicated()]
    measured = [f"{quantity}_{group}" for quantity in ("cross_entropy", "accuracy") for group in GROUPS]
    return table[["seed", "step", *measured, "mse_masked", "marginal_entropy"]]


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """Cross-entropy, accuracy and squared error against the step (Figure 11)."""
    figure = style.new_figure(style.TEXT_WIDTH, 2.9)
    entropies, accuracies, errors = figure.subplots(1, 3)
    drops = {seed: find_copying(curve) for seed, curve in table.groupby("seed")}
    _draw_groups(entropies, table, "cross_entropy", drops)
    level = table["marginal_entropy"].max()
    entropies.axhline(level, color=style.GREY, linewidth=0.8, linestyle="--", label=f"marginal law: {level:.3g} nats")
    entropies.set(ylabel="cross-entropy of an entry (nats)", ylim=(0, None), title=_outcome(drops))
    _draw_groups(accuracies, table, "accuracy", drops)
    accuracies.set(ylabel="accuracy (share of entries)", ylim=(-0.02, 1.02), title=style.seeds_text(table))
    for _, curve in table.dropna().groupby("seed"):
        errors.plot(curve["step"], curve["mse_masked"], **GROUPS["masked"])
    style.draw_plateau(errors, task)
    errors.set(ylabel="masked-entry MSE", ylim=(0, None), title="expected value, held-out matrices")
    for axes in (entropies, accuracies, errors):
        axes.set(xlabel=style.STEP_LABEL, xlim=(0, table["step"].max()))
    style.legend_below(figure, ncols=3)
    return figure


def _draw_groups(axes: Axes, table: pd.DataFrame, quantity: str, drops: dict[int, Drop]) -> None:
    for seed, curve in table.groupby("seed"):
        for group, look in GROUPS.items():
            axes.plot(curve["step"], curve[f"{quantity}_{group}"], linewidth=0.8, label=f"{group} entries", **look)
        onset, at = drops[seed].onset, curve.set_index("step")[f"{quantity}_observed"]
        if drops[seed].found and onset in at.index:  # an onset of 0 is before the first point
            axes.plot(onset, at[onset], "v", color="black", mfc="white", label="onset of copying")


def _outcome(drops: dict[int, Drop]) -> str:
    onsets = [drop.onset for drop in drops.values() if drop.found]
    censored = [drop.last_step for drop in drops.values() if not drop.found]
    found = [f"copying from step {style.span_text(onsets)}"] if onsets else []
    return ", ".join(found + ([f"none within {censored[0]} steps"] if censored else []))
