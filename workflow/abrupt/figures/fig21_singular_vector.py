"""Linear probes of every layer for the first left singular vector (paper, Figure 21)."""

import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.figures.fig06_probes import draw_panels, select
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
