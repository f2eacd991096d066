"""The MASK token replaced by that of a value, on matrices of iid entries (paper, Table 2)."""

import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import intervention, style
from abrupt.task import Task


def tidy(task: Task, training: list[str], token_intervention: list[str]) -> pd.DataFrame:
    """See `intervention.tidy`."""
    return intervention.tidy(task, training, token_intervention, "full_rank")


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """See `intervention.draw`."""
    return intervention.draw(table, task, "matrices of entries iid Unif[−1, 1]")
