"""One component switched between a checkpoint before the drop and one after it (of the authors' released analyses)."""

import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.task import Task

ENTRIES = ("masked", "observed")
DIRECTIONS = {"before": {"color": "#D55E00", "marker": "o"}, "after": {"color": "#0072B2", "marker": "s"}}
NONE = "none"


def tidy(task: Task, component_switching: list[str]) -> pd.DataFrame:
    """The tables of the analysis, one below the other: mse_masked and mse_observed with their standard errors over
    matrices for each receiver (before or after the drop) and component (none: the receiver as it is)."""
    table = pd.concat([pd.read_csv(path) for path in component_switching], ignore_index=True)
    table["receiver"] = (table["step"] < table["donor_step"]).map({True: "before", False: "after"})
    errors = [f"mse_{entries}{suffix}" for entries in ENTRIES for suffix in ("", "_se")]
    return table[["seed", "receiver", "step", "donor_step", "component", *errors]]


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """Errors at masked and at observed entries, a row a component; lines are the two models as they are."""
    components = [name for name in table["component"].unique() if name != NONE]
    figure = style.new_figure(style.TEXT_WIDTH, 1.5 + 0.3 * len(components))
    axes = figure.subplots(1, len(ENTRIES), sharey=True)
    seeds = sorted(table["seed"].unique())
    for panel, entries in zip(axes, ENTRIES, strict=True):
        for (receiver, seed), part in table.groupby(["receiver", "seed"], sort=False):
            intact = part["component"] == NONE
            look, mse = DIRECTIONS[receiver], f"mse_{entries}"
            label = _describe(part) if seed == seeds[0] and panel is axes[0] else None
            panel.axvline(part.loc[intact, mse].iloc[0], color=look["color"], linewidth=0.9, linestyle="--", zorder=0)
            switched = part[~intact]
            y = switched["component"].map(components.index) + (0.15 if receiver == "after" else -0.15)
            error = switched[f"{mse}_se"]
            style.draw_errors(panel, switched[mse], y, xerr=error, linestyle="none", label=label, **look)
        if entries == "masked":
            level = task.entry_variance
            panel.axvline(level, color=style.GREY, linewidth=0.8, linestyle=(0, (1, 1)), zorder=0, label="predicting 0")
        style.share_log_scale([panel])
        panel.set_xlabel(f"{entries}-entry {style.MSE_LABEL}")
        panel.grid(axis="y", color="0.92", linewidth=0.5)
    axes[0].plot([], [], color="black", linewidth=0.9, linestyle="--", label="nothing switched, same colours")
    axes[0].set_yticks(range(len(components)), [name.replace("_", " ") for name in components])
    axes[0].set(ylim=(len(components) - 0.5, -0.5), ylabel=f"switched component ({style.seeds_text(table)})")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _describe(part: pd.DataFrame) -> str:
    receiver, donor = part["step"].iloc[0], part["donor_step"].iloc[0]
    return f"model of step {receiver}, component of step {donor}"
