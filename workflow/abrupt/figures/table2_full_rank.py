"""The MASK token replaced by that of a value, on matrices of iid entries (paper, Table 2)."""

import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import intervention, style
from abrupt.figures.observation import Observation
from abrupt.task import Task


def tidy(task: Task, training: list[str], token_intervention: list[str]) -> pd.DataFrame:
    """See `intervention.tidy`."""
    return intervention.tidy(task, training, token_intervention, "full_rank")


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """See `intervention.draw`."""
    return intervention.draw(table, task, "matrices of entries iid Unif[−1, 1]")


def observe(table: pd.DataFrame, task: Task) -> Observation:
    """How far masked predictions are from v, and how much worse than 0 they are, before the drop and at the end."""
    parts = []
    for when, rows in style.before_and_last(table).items():
        of_mask = rows[rows["token_value"].isna()]
        worst = rows.dropna(subset="token_value").groupby("seed")["mse_to_value"].max()
        parts.append(
            f"{when} the MSE to v of masked predictions is at most {style.values_text(worst)} with a value's token "
            "in place of MASK, and with MASK their MSE to the truth is "
            f"{style.values_text(of_mask['mse_to_truth'] / of_mask['mse_if_copying'])} times that of predicting 0"
        )
    return Observation("; ".join(parts))
