"""One model trained on matrices of several sizes (paper, Figure 16)."""

import pandas as pd

from abrupt.figures import style, sweep
from abrupt.task import Task

PREFIX = "mse_masked_"  # the name of a column with the error at one size begins with it


def tidy(task: Task, training: list[str]) -> pd.DataFrame:
    """One row for each member (rows = columns of a size), seed and logged step: the masked-entry MSE at that
    size; steps between whose rows no update drew the size are left out."""
    table = style.read_training(training).drop(columns="mse_masked")
    columns = [column for column in table if column.startswith(PREFIX)]
    table = table.melt(["seed", "step"], columns, "member", "mse_masked").dropna()
    table["member"] = table["member"].str.extract(rf"{PREFIX}(\d+)x", expand=False).astype(int)
    return table[["member", "seed", "step", "mse_masked"]]


draw = sweep.make_draw("one model for all sizes, its error at each", "size {0} × {0}")
