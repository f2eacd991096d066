"""Loss curves: plateau, sudden drop, completion (paper, Figures 1 and 2)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.scores.drop import Drop
from abrupt.task import Task

CURVES = {
    "mse_masked": {"label": "masked entries, $L_{mask}$", "color": "#D55E00", "linestyle": "-"},
    "mse_all": {"label": "all entries, $L$", "color": "black", "linestyle": (0, (4, 1.2))},
    "mse_observed": {"label": "observed entries, $L_{obs}$", "color": "#56B4E9", "linestyle": (0, (5, 1, 1, 1))},
}


def tidy(task: Task, training: list[str]) -> pd.DataFrame:
    """One row for each seed and logged step: the three MSEs, means over the updates since the row before."""
    return style.read_training(training)[["seed", "step", *CURVES]]


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """The whole run on a log scale and, if there is a drop, the drop on a linear one (Figures 1 and 2)."""
    drops = {seed: style.find_drop(curve, task) for seed, curve in table.groupby("seed")}
    found = {seed: drop for seed, drop in drops.items() if drop.found}
    figure = style.new_figure(style.TEXT_WIDTH, 2.9)
    whole, *zoomed = figure.subplots(1, 2 if found else 1, squeeze=False)[0]
    for axes in (whole, *zoomed):
        _draw_curves(axes, table, found)
        style.draw_plateau(axes, task)
        axes.set(xlabel=style.STEP_LABEL, ylabel=style.MSE_LABEL)
    whole.set(yscale="log", xlim=(0, table["step"].max()))
    title = f"whole run, log scale ({style.seeds_text(table)})"
    without = table[~table["seed"].isin(found)]
    if len(without):
        censored = [drop for drop in drops.values() if not drop.found]
        title += f"\n{style.seeds_text(without)}: no drop {style.no_drop_text(censored, task)}"
    whole.set_title(title)
    for axes in zoomed:
        _zoom(axes, list(found.values()), table["step"].max(), task.entry_variance)
    style.legend_below(figure, ncols=3)
    return figure


def _draw_curves(axes: Axes, table: pd.DataFrame, found: dict[int, Drop]) -> None:
    for seed, curve in table.groupby("seed"):
        for name, look in CURVES.items():
            axes.plot(curve["step"], curve[name], linewidth=0.8, **look)
        at = curve.set_index("step")["mse_masked"]
        for name, marker in [("onset", "v"), ("completion", "s")] if seed in found else []:
            step = getattr(found[seed], name)
            if step in at.index:  # an onset of 0 is before the first point
                axes.plot(step, at[step], marker, color="black", mfc="white", label=f"{name} of the drop", zorder=3)


def _zoom(axes: Axes, drops: list[Drop], last_step: int, plateau: float) -> None:
    """Limit to the drops, as long a time before and after, and name the phases."""
    onset, completion = min(drop.onset for drop in drops), max(drop.completion for drop in drops)
    start, end = max(0, 2 * onset - completion), min(last_step, 2 * completion - onset)
    name = "sudden\ndrop" if all(drop.abrupt for drop in drops) else "drop\n(not abrupt)"
    phases = [(start, onset, "copying\nphase"), (onset, completion, name), (completion, end, "completion\nphase")]
    for left, right, phase in phases:
        if right > left:
            axes.text((left + right) / 2, 0.99, phase, ha="center", va="top", transform=axes.get_xaxis_transform())
    for drop in drops:
        axes.axvspan(drop.onset, drop.completion, color="0.5", alpha=0.15, linewidth=0, zorder=-1)
    axes.set(xlim=(start, end), ylim=(0, 1.35 * plateau))
    axes.set_title("around the drop, linear scale")
