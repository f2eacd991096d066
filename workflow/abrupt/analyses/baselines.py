"""Classical methods complete the matrices that `completion` gives to the model (paper, Figures 3 and 19).

No model is needed.
"""

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from abrupt.analyses.classical import alternating_least_squares, column_space_oracle, nuclear_norm, side_by_side
from abrupt.analyses.completion import held_out_per_task, per_matrix_errors, with_task_columns
from abrupt.sampling import Batch
from abrupt.task import FACTOR_VARIANCE, Task

logger = logging.getLogger(__name__)

# Alternating least squares uses these ridges one after the other, times the variance of a factor's entry. The last one
# is a compromise: a smaller one gives smaller errors where the observed entries determine the matrix (rank 1, few
# masked entries) and larger errors elsewhere.
ALS_RIDGES = (3.0, 1.0, 0.3, 0.1, 0.03)


def als_ridges(task: Task) -> list[float]:
    """Return the ridges of alternating least squares for `task`."""
    variance = FACTOR_VARIANCE[task.factor_law] * task.factor_scale**2
    return [share * variance for share in ALS_RIDGES]


def oracle_ridge(task: Task) -> float:
    """Return the ridge that makes the oracle's coefficients the most likely ones.

    It is the variance of an entry's rounding error divided by the variance of a coefficient of a column.
    """
    rounding = 10.0 ** (-2 * task.decimals) / 12
    return rounding * task.rank / (task.rows * task.entry_variance)


def completions(task: Task, batch: Batch, regularisation: list[float], parallel_map) -> Iterator[tuple]:
    """Yield (method, lambda, completed matrices) for each method.

    Lambda is nan for all but the regularised nuclear norm. Alternating least squares and the oracle know the rank.
    """
    matrices, observed = batch.target.double().numpy(), batch.observed.numpy()
    for strength in (0.0, *regularisation):
        solved = nuclear_norm(matrices, observed, strength, parallel_map)
        progress = tqdm(solved, "nuclear norm", len(matrices), leave=False, unit="matrix", disable=None)
        name = "regularised_nuclear_norm" if strength else "nuclear_norm"
        yield name, strength or math.nan, np.stack(list(progress))
    yield (
        "alternating_least_squares",
        math.nan,
        alternating_least_squares(matrices, observed, task.rank, als_ridges(task)),
    )
    yield "column_space_oracle", math.nan, column_space_oracle(matrices, observed, task.rank, oracle_ridge(task))


def measure(
    task: Task, seed: int, matrices: int, shifts: dict[str, Any], regularisation: list[float], processes: int
) -> pd.DataFrame:
    """Return the errors of each method on `task` and on each of its `shifts`, one row for each matrix.

    The regularised nuclear norm completes the matrices of `task` alone.
    """
    batches = held_out_per_task(task, shifts, matrices, seed)
    tables = []
    with side_by_side(processes) as parallel_map:
        for number, (shifted, numbers, batch) in enumerate(batches, 1):
            change = task.difference(shifted)
            logger.info("task %d of %d, %s: %d matrices", number, len(batches), change, len(numbers))
            strengths = regularisation if shifted == task else []
            for method, strength, completed in completions(shifted, batch, strengths, parallel_map):
                errors = per_matrix_errors(torch.from_numpy(completed).to(batch.target), batch)
                errors = errors.assign(method=method, regularisation=strength)
                tables.append(with_task_columns(errors, shifted, numbers))
    return pd.concat(tables, ignore_index=True)
