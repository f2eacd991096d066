"""Token intervention: the token of a value v replaces the MASK token (paper, Tables 1 and 2).

A model that copies predicts v at masked entries, so its MSE to the truth there is E[x^2] + v^2. That is rank/9 + v^2
for the paper's factors, and 1/3 + v^2 for iid entries Unif[-1, 1], as in the authors' code.
"""

import math
from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from abrupt.analyses import STREAM, per_checkpoint
from abrupt.models.bert import Bert
from abrupt.sampling import Batch, make_generator, sample_observed, token_ids, tokenise
from abrupt.task import MASK_TOKEN, Task


def mean_and_error(values: Tensor, masked: Tensor) -> tuple[float, float]:
    """Return the mean of `values` (B, T) over masked entries, and its standard error.

    The B matrices are independent, but the entries of one matrix are not.
    """
    count = masked.sum()
    mean = (values * masked).sum() / count
    deviations = ((values - mean) * masked).sum(1)
    return mean.item(), (deviations.square().sum().sqrt() / count).item()


@torch.no_grad()
def intervene(model: Bert, task: Task, batch: Batch, values: list[float], mean_square: float) -> pd.DataFrame:
    """Return one row for the MASK token and one for each of `values`. The measures are over masked entries.

        token_value      v, or nan for the MASK token, in whose place a model that copies predicts v = 0
        mean_prediction  the mean prediction
        mse_to_value     the MSE of the prediction to v
        mse_to_truth     the MSE of the prediction to the truth
        mse_if_copying   mse_to_truth of a model that copies: `mean_square`, the E[x^2] of the batch's law, + v^2

    Each measure but the last is followed by its standard error, <name>_error.
    """
    rows = []
    masked = ~batch.observed.flatten(1)
    truth = batch.target.flatten(1)
    for value in (None, *values):
        copied = 0.0 if value is None else value
        token = MASK_TOKEN if value is None else token_ids(task, torch.tensor(value)).item()
        prediction = model(torch.where(masked, token, batch.tokens))
        mean, mean_error = mean_and_error(prediction, masked)
        to_value, to_value_error = mean_and_error((prediction - copied) ** 2, masked)
        to_truth, to_truth_error = mean_and_error((prediction - truth) ** 2, masked)
        rows.append(
            {
                "token_value": math.nan if value is None else value,
                "mean_prediction": mean,
                "mean_prediction_error": mean_error,
                "mse_to_value": to_value,
                "mse_to_value_error": to_value_error,
                "mse_to_truth": to_truth,
                "mse_to_truth_error": to_truth_error,
                "mse_if_copying": mean_square + copied**2,
            }
        )
    return pd.DataFrame(rows)


def sample_full_rank(task: Task, matrices: int, seed: int) -> Batch:
    """Draw matrices of iid entries Unif[-1, 1], and round and mask them like the task's."""
    generator = make_generator(seed, f"{STREAM}/full_rank")
    uniform = torch.rand((matrices, task.rows, task.columns), generator=generator) * 2 - 1
    target = torch.round(uniform * 10**task.decimals) / 10**task.decimals
    observed = sample_observed(task, matrices, generator)
    return Batch(tokenise(task, target, observed), target, observed)


low_rank = per_checkpoint(intervene)
full_rank = per_checkpoint(intervene, sample_full_rank)


def measure(models: Mapping[int, Bert], task: Task, seed: int, matrices: int, values: list[float]) -> pd.DataFrame:
    """Return `intervene` at every step, on matrices of two laws.

    The column inputs is low_rank for matrices of the task, and full_rank for those of `sample_full_rank`.
    """
    arguments = (models, task, seed, matrices)
    tables = [
        low_rank(*arguments, values=values, mean_square=task.entry_variance).assign(inputs="low_rank"),
        full_rank(*arguments, values=values, mean_square=1 / 3).assign(inputs="full_rank"),
    ]
    return pd.concat(tables, ignore_index=True)
