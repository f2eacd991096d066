"""Matrices with Gaussian factors (paper, Figure 18): the curves of Figure 2."""

import pandas as pd

from abrupt.figures import style
from abrupt.figures.fig02_loss import draw, tidy
from abrupt.figures.observation import Observation
from abrupt.task import Task

__all__ = ["draw", "observe", "tidy"]


def observe(table: pd.DataFrame, task: Task) -> Observation:
    """The onset, and the last loss over all entries."""
    curves = [curve for _, curve in table.groupby("seed")]
    drops = [style.find_drop(curve, task) for curve in curves]
    onset = style.outcome_text(drops, table["step"].min(), task)
    last = style.values_text([curve["mse_all"].iloc[-1] for curve in curves])
    return Observation(f"onset of the drop: {onset}; last MSE over all entries {last}")
