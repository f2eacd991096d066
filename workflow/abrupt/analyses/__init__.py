"""The analyses of checkpoints, with one experiment in each module.

A module's `measure(models, task, seed, matrices, **options)` returns a tidy table. `models` maps each step to its
model, in the order of training. Most experiments measure one model at a time on a batch of held-out matrices: they
define that measurement, and `per_checkpoint` makes `measure` of it.
"""

from collections.abc import Callable, Mapping

import pandas as pd
from torch import Tensor

from abrupt.models.bert import Bert
from abrupt.sampling import Batch, sample_batch
from abrupt.task import Task

# The random stream of the held-out matrices. Every model, analysis and baseline that takes the same number of matrices
# gets the same ones. Another number gives other matrices.
STREAM = "analysis"


def held_out(task: Task, matrices: int, seed: int) -> Batch:
    """Draw `matrices` held-out matrices of `task`."""
    return sample_batch(task, matrices, seed, STREAM)


def per_checkpoint(
    measure_model: Callable[..., pd.DataFrame], sample: Callable[[Task, int, int], Batch] = held_out
) -> Callable[..., pd.DataFrame]:
    """Make a `measure` that calls `measure_model(model, task, batch, **options)` at every step.

    Every step gets the same batch, which `sample(task, matrices, seed)` draws. The table has the rows of all steps and
    a column `step`.
    """

    def measure(models: Mapping[int, Bert], task: Task, seed: int, matrices: int, **options) -> pd.DataFrame:
        batch = sample(task, matrices, seed)
        tables = []
        for step, model in models.items():
            tables.append(measure_model(model, task, batch.to(model.device), **options).assign(step=step))
        return pd.concat(tables, ignore_index=True)

    return measure


def ratio_of_sums(numerator: Tensor, denominator: Tensor) -> tuple[float, float]:
    """Return sum(numerator) / sum(denominator) and its standard error, each nan where it is undefined.

    Both arguments are (B,), with one value for each of B independent matrices. A mean over entries is such a ratio, so
    its standard error counts matrices: the entries of one matrix are not independent.
    """
    numerator, denominator = numerator.double(), denominator.double()
    ratio = numerator.sum() / denominator.sum()
    deviation = numerator - ratio * denominator
    count = len(numerator)
    variance = (deviation**2).sum() * count / (count - 1) if count > 1 else deviation.new_tensor(float("nan"))
    return ratio.item(), (variance.sqrt() / denominator.sum().abs()).item()


def mean_errors(prediction: Tensor, batch: Batch) -> dict[str, float]:
    """Return mse_all, mse_observed and mse_masked, each followed by its standard error <name>_se.

    They are means over entries, and the standard errors are over matrices (see `ratio_of_sums`). `prediction` is (B,
    rows*columns).
    """
    squared = (prediction - batch.target.flatten(1)) ** 2
    observed = batch.observed.flatten(1)
    errors = {}
    for name, chosen in {"all": observed | ~observed, "observed": observed, "masked": ~observed}.items():
        mean, error = ratio_of_sums((squared * chosen).sum(1), chosen.sum(1))
        errors |= {f"mse_{name}": mean, f"mse_{name}_se": error}
    return errors
