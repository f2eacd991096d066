"""Linear probes of every layer for the first left singular vector (paper, Figure 21)."""

import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.figures.fig06_probes import draw_panels, select
from abrupt.figures.observation import Observation
from abrupt.task import Task

PANELS = {
    ("singular_vector", "all", "relative_mse"): "first left singular vector",
    ("singular_vector", "all", "abs_cosine"): "first left singular vector",
}


def tidy(task: Task, training: list[str], probes: list[str]) -> pd.DataFrame:
    """The table of Figure 6 for this target."""
    return select(style.read_progress(task, training, probes), ["singular_vector"])


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """Above against the layer, at the telling steps; below against the step, for every layer (Figure 21)."""
    return draw_panels(table, PANELS)


def observe(table: pd.DataFrame, task: Task) -> Observation:
    """The layer that the singular vector is read from best, before the drop and at the end, for every seed."""
    parts = []
    chosen = table[table["entries"] == "all"]
    for when, rows in style.before_and_last(chosen).items():
        for seed, of_seed in rows.groupby("seed"):
            layers = of_seed.dropna(subset="layer")
            best = layers.loc[layers["abs_cosine"].idxmax()]
            mean = of_seed.loc[of_seed["layer"].isna(), "abs_cosine"].iloc[0]
            parts.append(
                f"{when} (seed {seed}) layer {best['layer']:.0f} is read best: mean |cosine| {best['abs_cosine']:.2g}, "
                f"MSE {best['relative_mse']:.2g} of that of the mean target, whose |cosine| is {mean:.2g}"
            )
    return Observation("; ".join(parts))
