"""Linear probes of every layer: what can be read from an entry's hidden state (paper, Figures 6 and 21).

One least-squares map without bias for each layer and target, from hidden state to target, shared by all
entries of a matrix; for the first target by its masked entries alone. Targets of the entry (i, j):

    masked_value      x_ij where it is masked: what the model has found out, not what it was told
    element_value     x_ij, masked or not
    masked_row        row i with its masked entries as 0
    masked_column     column j likewise
    singular_vector   the first left singular vector of X, with the sign that gives it a positive product
                      with column j: which of the two signs is free, and no linear map can find one that
                      was fixed without regard to the entry
"""

import math

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from abrupt.analyses import per_checkpoint, ratio_of_sums
from abrupt.models.bert import Bert, Hooks
from abrupt.sampling import Batch
from abrupt.task import Task

CHUNK_SIZE = 64
OF_MASKED = "masked_value"  # the target of masked entries alone
# Of the Gram matrix: hidden states are float32, so a direction of 1e-6 of the largest is rounding.
SMALLEST_EIGENVALUE = 1e-12


def top_left_singular_vectors(matrices: Tensor) -> Tensor:
    """For each column the first left singular vector, its product with the column not negative: (B, rows,
    columns) -> (B, columns, rows)."""
    vectors = torch.linalg.svd(matrices, full_matrices=False).U[:, :, 0]
    agree = torch.einsum("br,brc->bc", vectors, matrices) >= 0
    return torch.where(agree[..., None], vectors[:, None], -vectors[:, None])


def probe_targets(batch: Batch) -> dict[str, Tensor]:
    """What is probed for, for every entry: name -> (B, rows*columns, width), float64."""
    target = batch.target.double()
    seen = target * batch.observed
    _, rows, columns = target.shape
    return {
        "element_value": target.reshape(-1, rows * columns, 1),
        "masked_row": seen.repeat_interleave(columns, dim=1),
        "masked_column": seen.mT.repeat(1, rows, 1),
        "singular_vector": top_left_singular_vectors(target).repeat(1, rows, 1),
    }


def hidden_states(model: Bert, tokens: Tensor) -> Tensor:
    """The embeddings and each layer's output, float64: tokens (B, T) -> (layers + 1, B, T, H)."""
    states = []

    def keep(layer: int, hidden: Tensor) -> Tensor:
        states.append(hidden.double())
        return hidden

    model.forward_with_hooks(tokens, Hooks(hidden=keep))
    return torch.stack(states)


def fit(model: Bert, tokens: Tensor, targets: Tensor, chosen: Tensor) -> Tensor:
    """Least squares from hidden states to targets (B, T, D) at the `chosen` (B, T) entries, for every layer:
    (layers + 1, H, D), float64.

    Through the normal equations, summed over chunks: memory does not grow with the number of matrices.
    """
    gram, cross = 0, 0
    for some_tokens, *some in zip(*(tensor.split(CHUNK_SIZE) for tensor in (tokens, targets, chosen)), strict=True):
        some_targets, some_chosen = (tensor.flatten(0, 1) for tensor in some)
        hidden = hidden_states(model, some_tokens).flatten(1, 2)[:, some_chosen]
        gram = gram + hidden.mT @ hidden
        cross = cross + hidden.mT @ some_targets[some_chosen]
    return torch.linalg.pinv(gram, rtol=SMALLEST_EIGENVALUE, hermitian=True) @ cross


def predict(model: Bert, tokens: Tensor, weights: Tensor) -> Tensor:
    """What the probes of `fit` read from the hidden states: (layers + 1, B, T, D)."""
    chunks = [hidden_states(model, some) @ weights[:, None] for some in tokens.split(CHUNK_SIZE)]
    return torch.cat(chunks, dim=1)


@torch.no_grad()
def probe(model: Bert, task: Task, batch: Batch, train_matrices: int) -> pd.DataFrame:
    """Probes fitted on the first `train_matrices` of the batch and measured on the others.

    One row for each target, group of entries (all, observed, masked: of the test matrices; the probe is
    fitted on all entries, that of OF_MASKED on masked ones and has no other rows) and layer (0: the
    embeddings; nan: no layer, but the training targets' mean as the prediction). Columns: mse, the mean
    squared error of a component of the target; relative_mse, its ratio to that of the mean; abs_cosine,
    the mean |cosine| of target and prediction, over entries whose target is not zero, nan for single
    values; each with its standard error over matrices, <name>_se.
    """
    targets, observed = probe_targets(batch), batch.observed.flatten(1)
    groups = {"all": observed | ~observed, "observed": observed, "masked": ~observed}
    value = {OF_MASKED: targets["element_value"]}
    rows = probe_together(model, batch.tokens, targets, groups["all"], groups, train_matrices)
    rows += probe_together(model, batch.tokens, value, ~observed, {"masked": ~observed}, train_matrices)
    return pd.DataFrame(rows)


def probe_together(
    model: Bert,
    tokens: Tensor,
    targets: dict[str, Tensor],
    fitted: Tensor,
    groups: dict[str, Tensor],
    train_matrices: int,
) -> list[dict]:
    """The rows of `probe` for targets that are all fitted on the entries `fitted` (B, T), and measured on `groups`."""
    stacked = torch.cat(list(targets.values()), dim=-1)
    train, test = stacked[:train_matrices], stacked[train_matrices:]
    weights = fit(model, tokens[:train_matrices], train, fitted[:train_matrices])
    probed = predict(model, tokens[train_matrices:], weights)
    mean = train[fitted[:train_matrices]].mean(0).expand_as(test)
    widths = [target.shape[-1] for target in targets.values()]
    rows = []
    for layer, prediction in {math.nan: mean, **dict(enumerate(probed))}.items():
        of_targets = (tensor.split(widths, dim=-1) for tensor in (prediction, mean, test))
        for name, *tensors in zip(targets, *of_targets, strict=True):
            for group, chosen in groups.items():
                errors = probe_errors(*tensors, chosen[train_matrices:])
                rows.append({"target": name, "entries": group, "layer": layer, **errors})
    return rows


def probe_errors(prediction: Tensor, mean: Tensor, truth: Tensor, chosen: Tensor) -> dict[str, float]:
    """The measures of `probe` from three (B, T, D), at the `chosen` (B, T) entries."""

    def squared_errors(read: Tensor) -> Tensor:
        return (((read - truth) ** 2).mean(-1) * chosen).sum(1)

    squared = squared_errors(prediction)
    ratios = {"mse": (squared, chosen.sum(1)), "relative_mse": (squared, squared_errors(mean))}
    if truth.shape[-1] > 1:
        directed = chosen & truth.any(-1)
        cosine = F.cosine_similarity(prediction, truth, dim=-1).abs()
        ratios["abs_cosine"] = ((cosine * directed).sum(1), directed.sum(1))
    errors = {}
    for name in ("mse", "relative_mse", "abs_cosine"):
        errors[name], errors[f"{name}_se"] = ratio_of_sums(*ratios[name]) if name in ratios else (math.nan, math.nan)
    return errors


measure = per_checkpoint(probe)
