"""The MASK token replaced by that of a value, on matrices of the task (paper, Table 1)."""

import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import intervention, style
from abrupt.task import Task


def tidy(task: Task, training: list[str], token_intervention: list[str]) -> pd.DataFrame:
    """See `intervention.tidy`."""
    return intervention.tidy(task, training, token_intervention, "low_rank")


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """See `intervention.draw`."""
    return intervention.draw(table, task, "matrices of the task")
