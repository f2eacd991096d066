"""Token intervention (paper, Table 1): the MASK token is replaced by the token of a value.

A model that copies predicts that value v at masked entries, so that its MSE to the truth there is
E[x^2] + v^2 = rank/9 + v^2.
"""

import math

import pandas as pd
import torch

from abrupt.bert import Bert
from abrupt.drop import plateau_mse_masked
from abrupt.task import MASK_TOKEN, Batch, Task, token_ids


@torch.no_grad()
def measure(model: Bert, task: Task, batch: Batch, values: list[float]) -> pd.DataFrame:
    """One row for the MASK token (token_value nan, to be copied as 0) and one for each of `values`.

    Columns: token_value; mean_prediction at masked entries; mse_to_value and mse_to_truth, over masked
    entries; mse_if_copying, rank/9 + v^2.
    """
    rows = []
    masked = ~batch.observed.flatten(1)
    truth = batch.target.flatten(1)[masked]
    for value in (None, *values):
        copied = 0.0 if value is None else value
        token = MASK_TOKEN if value is None else token_ids(task, torch.tensor(value)).item()
        prediction = model(torch.where(masked, token, batch.tokens))[masked]
        rows.append(
            {
                "token_value": math.nan if value is None else value,
                "mean_prediction": prediction.mean().item(),
                "mse_to_value": ((prediction - copied) ** 2).mean().item(),
                "mse_to_truth": ((prediction - truth) ** 2).mean().item(),
                "mse_if_copying": plateau_mse_masked(task.rank) + copied**2,
            }
        )
    return pd.DataFrame(rows)
