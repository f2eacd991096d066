"""One matrix as the model completes it before, during and after the drop (the task of the paper's Figure 1)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.task import Task

NAMES = {False: "masked", True: "observed"}


def tidy(task: Task, training: str, attention: list[str]) -> pd.DataFrame:
    """One row for each telling step and entry of one held-out matrix: truth, observed, prediction."""
    row, column = np.divmod(np.arange(task.rows * task.columns), task.columns)
    names = ("sample_matrix", "sample_observed", "sample_prediction")
    tables = []
    for snapshot in style.read_snapshots(task, training, attention, names):
        matrix, observed, prediction = (snapshot.arrays[name][0].ravel() for name in names)
        tables.append(
            pd.DataFrame(
                {
                    "seed": snapshot.seed,
                    "step": snapshot.step,
                    "label": snapshot.label,
                    "row": row + 1,
                    "column": column + 1,
                    "observed": observed.astype(bool),
                    "truth": matrix.astype(float).round(task.decimals),
                    "prediction": prediction.astype(float).round(6),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """Truth and prediction above, input and absolute error below, a column a step."""
    steps = table["step"].unique()
    figure = style.new_figure(style.TEXT_WIDTH, 1.3 + 2.7 * min(task.rows / task.columns, 1.5))
    axes = figure.subplots(2, len(steps) + 1, squeeze=False)
    table = table.assign(error=(table["prediction"] - table["truth"]).abs())
    limit = table["truth"].abs().max()
    values = {"cmap": style.VALUE_COLORS, "vmin": -limit, "vmax": limit}
    errors = {"cmap": style.MAGNITUDE_COLORS, "vmin": 0, "vmax": limit}
    first = table[table["step"] == steps[0]]
    truth, observed = style.grid(first, "truth"), style.grid(first, "observed")
    value_image = style.draw_matrix(axes[0, 0], truth, observed, **values)
    axes[0, 0].set_title(f"truth, rank {task.rank} (seed {first['seed'].iloc[0]})\nmasked entries outlined")
    style.draw_matrix(axes[1, 0], np.where(observed, truth, np.nan), observed, **values)
    axes[1, 0].set_title("input:\nthe observed entries")
    for (above, below), step in zip(axes[:, 1:].T, steps, strict=True):
        at_step = table[table["step"] == step]
        style.draw_matrix(above, style.grid(at_step, "prediction"), observed, **values)
        above.set_title(f"prediction, step {step}\n({at_step['label'].iloc[0]})")
        error_image = style.draw_matrix(below, style.grid(at_step, "error"), observed, **errors)
        mse = {seen: (part["error"] ** 2).mean() for seen, part in at_step.groupby("observed")}
        below.set_title("\n".join(f"{name} MSE: {mse[seen]:.2g}" for seen, name in NAMES.items() if seen in mse))
    for row in axes:
        row[0].set_ylabel("row")
    for panel in axes[1]:
        panel.set_xlabel("column")
    figure.colorbar(value_image, ax=axes[0], label="entry value", shrink=0.9, extend="both")
    figure.colorbar(error_image, ax=axes[1], label="|prediction − truth|", shrink=0.9, extend="max")
    return figure
