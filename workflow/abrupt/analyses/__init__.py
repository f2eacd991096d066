"""One module an experiment: its `measure(models, task, seed, matrices, **options)` gives a tidy table.

`models` maps steps to models, in the order of training. Most experiments measure one model on one batch
of held-out matrices; `per_checkpoint` makes the rest of them.
"""

from collections.abc import Callable, Mapping

import pandas as pd
from torch import Tensor

from abrupt.models.bert import Bert
from abrupt.sampling import Batch, sample_batch
from abrupt.task import Task

# Of the held-out matrices: the same for every model, and for all analyses and baselines of as many matrices. With
# another number of them the stream gives others.
STREAM = "analysis"


def held_out(task: Task, matrices: int, seed: int) -> Batch:
    """The held-out matrices of `task`."""
    return sample_batch(task, matrices, seed, STREAM)


def per_checkpoint(
    of_model: Callable[..., pd.DataFrame], sample: Callable[[Task, int, int], Batch] = held_out
) -> Callable[..., pd.DataFrame]:
    """`of_model(model, task, batch, **options)` on the same batch at every step: its rows, with a column `step`."""

    def measure(models: Mapping[int, Bert], task: Task, seed: int, matrices: int, **options) -> pd.DataFrame:
        batch = sample(task, matrices, seed)
        tables = []
        for step, model in models.items():
            tables.append(of_model(model, task, batch.to(model.device), **options).assign(step=step))
        return pd.concat(tables, ignore_index=True)

    return measure


def ratio_of_sums(numerator: Tensor, denominator: Tensor) -> tuple[float, float]:
    """sum(numerator) / sum(denominator) and its standard error, both (B,) with one value for each independent
    matrix; nan where undefined. A mean over entries is one: its error counts matrices, not entries."""
    numerator, denominator = numerator.double(), denominator.double()
    ratio = numerator.sum() / denominator.sum()
    deviation = numerator - ratio * denominator
    count = len(numerator)
    variance = (deviation**2).sum() * count / (count - 1) if count > 1 else deviation.new_tensor(float("nan"))
    return ratio.item(), (variance.sqrt() / denominator.sum().abs()).item()


def mean_errors(prediction: Tensor, batch: Batch) -> dict[str, float]:
    """mse_all, mse_observed and mse_masked, means over entries, each followed by its standard error over matrices,
    <name>_se. `prediction` is (B, rows*columns)."""
    squared = (prediction - batch.target.flatten(1)) ** 2
    observed = batch.observed.flatten(1)
    errors = {}
    for name, chosen in {"all": observed | ~observed, "observed": observed, "masked": ~observed}.items():
        mean, error = ratio_of_sums((squared * chosen).sum(1), chosen.sum(1))
        errors |= {f"mse_{name}": mean, f"mse_{name}_se": error}
    return errors
