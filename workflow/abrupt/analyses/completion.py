"""How well a model completes matrices, one row a matrix (paper, Figure 3, at the training mask probability)."""

import pandas as pd
import torch
from torch import Tensor

from abrupt.bert import Bert
from abrupt.task import Batch, Task


def per_matrix_errors(prediction: Tensor, batch: Batch) -> pd.DataFrame:
    """One row a matrix: mse_all, mse_masked (nan if nothing is masked), and the nuclear norms of
    prediction and truth. `prediction` is (B, rows, columns)."""
    squared = (prediction - batch.target) ** 2
    masked = ~batch.observed
    return pd.DataFrame(
        {
            "matrix": range(len(prediction)),
            "mse_all": squared.mean((1, 2)).cpu(),
            "mse_masked": ((squared * masked).sum((1, 2)) / masked.sum((1, 2))).cpu(),
            "nuclear_norm": torch.linalg.svdvals(prediction).sum(-1).cpu(),
            "nuclear_norm_truth": torch.linalg.svdvals(batch.target).sum(-1).cpu(),
        }
    )


@torch.no_grad()
def measure(model: Bert, task: Task, batch: Batch) -> pd.DataFrame:
    """`per_matrix_errors` of the model's output for every matrix in the batch."""
    prediction = model(batch.tokens).reshape(batch.target.shape)
    return per_matrix_errors(prediction, batch)
