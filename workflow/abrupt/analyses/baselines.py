"""Classical completion of the matrices that `completion` gives to the model: needs none (paper, Figures 3 and 19)."""

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from abrupt.analyses.classical import alternating_least_squares, column_space_oracle, nuclear_norm, side_by_side
from abrupt.analyses.completion import held_out_of_each, per_matrix_errors, tagged
from abrupt.sampling import Batch
from abrupt.task import FACTOR_VARIANCE, Task

logger = logging.getLogger(__name__)


# Of alternating least squares, over the variance of a factor's entry. The last is a compromise: a smaller one is better
# where the observed entries determine the matrix, at rank 1 and few masked, and worse elsewhere.
ALS_RIDGES = (3.0, 1.0, 0.3, 0.1, 0.03)


def als_ridges(task: Task) -> list[float]:
    """`ALS_RIDGES` for the factors of this task."""
    variance = FACTOR_VARIANCE[task.factor_law] * task.factor_scale**2
    return [share * variance for share in ALS_RIDGES]


def oracle_ridge(task: Task) -> float:
    """The variance of rounding an entry over that of a column's coefficient: the most likely coefficients."""
    rounding = 10.0 ** (-2 * task.decimals) / 12
    return rounding * task.rank / (task.rows * task.entry_variance)


def completions(task: Task, batch: Batch, regularisation: list[float], parallel_map) -> Iterator[tuple]:
    """(method, lambda or nan, completed matrices) for each method. The last two know the rank."""
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
    """Errors of each method on `task` and on each of its `shifts`; the regularised nuclear norm on `task` alone."""
    batches = held_out_of_each(task, shifts, matrices, seed)
    tables = []
    with side_by_side(processes) as parallel_map:
        for number, (shifted, numbers, batch) in enumerate(batches, 1):
            change = task.difference(shifted)
            logger.info("task %d of %d, %s: %d matrices", number, len(batches), change, len(numbers))
            strengths = regularisation if shifted == task else []
            for method, strength, completed in completions(shifted, batch, strengths, parallel_map):
                errors = per_matrix_errors(torch.from_numpy(completed).to(batch.target), batch)
                errors = errors.assign(method=method, regularisation=strength)
                tables.append(tagged(errors, shifted, numbers))
    return pd.concat(tables, ignore_index=True)
