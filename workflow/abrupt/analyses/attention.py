"""Attention maps, and how each head shares its attention among groups of positions (paper, Figures 4, 5, 22, 23)."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from abrupt.models.bert import Bert
from abrupt.sampling import Batch, sample_batch, tokenise
from abrupt.scores.heads import head_groups, overall_scores, tidy_shares
from abrupt.task import Task

CHUNK_SIZE = 32
QUERY_GROUPS = ("all", "observed", "masked")
KEY_GROUPS = ("same_row", "same_column", "self", "observed", "masked")


class Extraction(NamedTuple):
    """What is measured under one mask pattern, for T = rows*columns positions and S single samples.

        attention_mean     the attention weights, averaged over matrices, (layers, heads, query T, key T)
        head_share         the share of a query's attention that goes to each of KEY_GROUPS, averaged over the queries
                           in each of QUERY_GROUPS, (layers, heads, 3, 5)
        uniform_share      the same shares for a head that attends to every position alike, (3, 5)
        sample_matrix      single matrices, (S, rows, columns)
        sample_observed    their masks, (S, rows, columns)
        sample_tokens      their tokens, (S, T)
        sample_prediction  the predictions for them, (S, rows, columns)
        sample_attention   their attention weights, (S, layers, heads, query T, key T)

    The key groups same_row and same_column leave out the query itself.
    """

    attention_mean: np.ndarray
    head_share: np.ndarray
    uniform_share: np.ndarray
    sample_matrix: np.ndarray
    sample_observed: np.ndarray
    sample_tokens: np.ndarray
    sample_prediction: np.ndarray
    sample_attention: np.ndarray


DIMENSIONS = {
    "attention_mean": ("layer", "head", "query", "key"),
    "head_share": ("layer", "head", "query_group", "key_group"),
    "uniform_share": ("query_group", "key_group"),
    "sample_matrix": ("sample", "row", "column"),
    "sample_observed": ("sample", "row", "column"),
    "sample_tokens": ("sample", "position"),
    "sample_prediction": ("sample", "row", "column"),
    "sample_attention": ("sample", "layer", "head", "query", "key"),
}


def random_masks(task: Task, num_matrices: int, seed: int) -> Batch:
    """Draw matrices with random masks. Attention is averaged over them, and heads are scored on them."""
    return sample_batch(task, num_matrices, seed, "attention")


def mask_patterns(task: Task, num_matrices: int, seed: int) -> dict[str, Batch]:
    """Return one batch for each mask pattern, all of the same matrices.

        random          each entry is masked at random
        masked_rows     the middle and the last row are masked, except for one entry each, in the second and in the last
                        but one column (paper, Figure 5); at 7 x 7, counted from 0, these are rows 3 and 6, where (3,1)
                        and (6,5) are observed
        masked_columns  the transpose of masked_rows

    In the two structured masks all other entries are observed.
    """
    random = random_masks(task, num_matrices, seed)
    observed_rows = torch.ones(task.rows, task.columns, dtype=torch.bool)
    observed_rows[[task.rows // 2, -1]] = False
    observed_rows[[task.rows // 2, -1], [1, -2]] = True
    observed_columns = torch.ones_like(observed_rows)
    observed_columns[:, [task.columns // 2, -1]] = False
    observed_columns[[1, -2], [task.columns // 2, -1]] = True
    return {
        "random": random,
        "masked_rows": _with_mask(task, random.target, observed_rows),
        "masked_columns": _with_mask(task, random.target, observed_columns),
    }


def _with_mask(task: Task, target: Tensor, observed: Tensor) -> Batch:
    observed = observed.expand_as(target)
    return Batch(tokenise(task, target, observed), target, observed)


def key_groups(task: Task, observed: Tensor) -> Tensor:
    """Return which keys are in which of KEY_GROUPS, for each query: observed (B, T) -> bool (5, B, query T, key T)."""
    batch_size, length = observed.shape
    position = torch.arange(length, device=observed.device)
    row, column = position // task.columns, position % task.columns
    itself = torch.eye(length, dtype=torch.bool, device=observed.device)
    same_row = (row[:, None] == row) & ~itself
    same_column = (column[:, None] == column) & ~itself
    shape = (batch_size, length, length)
    to_observed = observed[:, None, :].expand(shape)
    return torch.stack(
        [same_row.expand(shape), same_column.expand(shape), itself.expand(shape), to_observed, ~to_observed]
    )


def query_groups(observed: Tensor) -> Tensor:
    """Return which queries are in which of QUERY_GROUPS: observed (B, T) -> bool (3, B, T)."""
    return torch.stack([torch.ones_like(observed), observed, ~observed])


def share_sums(task: Task, weights: Tensor, observed: Tensor) -> Tensor:
    """Sum the attention mass on each key group over matrices and over the queries of each query group.

    `weights` is (B, ..., query T, key T) and `observed` (B, T). The result is (..., 3 query groups, 5 key groups),
    float64.
    """
    keys = key_groups(task, observed).to(weights.dtype)
    queries = query_groups(observed).to(weights.dtype)
    mass = torch.einsum("b...qk,gbqk->b...qg", weights, keys)
    return torch.einsum("b...qg,rbq->...rg", mass, queries).double()


@torch.no_grad()
def extract(model: Bert, task: Task, batch: Batch, num_samples: int) -> Extraction:
    """Measure the attention of `model` on `batch`, and keep the first `num_samples` matrices singly.

    The batch passes through the model in chunks, so the attention weights take the same memory for any number of
    matrices.
    """
    attention_sum, share_sum, uniform_sum, query_count = 0, 0, 0, 0
    predictions, sample_weights = [], []
    for tokens, observed in zip(
        batch.tokens.split(CHUNK_SIZE), batch.observed.flatten(1).split(CHUNK_SIZE), strict=True
    ):
        prediction, weights = model.forward_with_attention(tokens)
        attention_sum = attention_sum + weights.double().sum(0)
        share_sum = share_sum + share_sums(task, weights, observed)
        uniform = torch.full((len(tokens), *weights.shape[-2:]), 1 / weights.shape[-1], device=weights.device)
        uniform_sum = uniform_sum + share_sums(task, uniform, observed)
        query_count = query_count + query_groups(observed).sum((1, 2))[:, None]
        wanted = num_samples - sum(map(len, predictions))
        if wanted > 0:  # cloned, because a view would keep the whole chunk in memory
            predictions.append(prediction[:wanted].clone())
            sample_weights.append(weights[:wanted].clone())
    shape = (-1, task.rows, task.columns)
    arrays = Extraction(
        attention_mean=(attention_sum / len(batch.tokens)).float(),
        head_share=(share_sum / query_count).float(),
        uniform_share=(uniform_sum / query_count).float(),
        sample_matrix=batch.target[:num_samples],
        sample_observed=batch.observed[:num_samples],
        sample_tokens=batch.tokens[:num_samples],
        sample_prediction=torch.cat(predictions).reshape(shape),
        sample_attention=torch.cat(sample_weights),
    )
    return Extraction(*(array.cpu().numpy() for array in arrays))


def measure_head_groups(model: Bert, task: Task, batch: Batch) -> pd.Series:
    """Return the `head_groups` of `model`, measured on `batch`, whose masks must be random."""
    extraction = extract(model, task, batch, num_samples=1)
    attributes = {"seed": 0, "step": 0, "query_groups": QUERY_GROUPS, "key_groups": KEY_GROUPS}
    return head_groups(overall_scores(tidy_shares(attributes, {"random": extraction._asdict()})))
