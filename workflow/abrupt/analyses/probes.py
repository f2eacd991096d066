"""Linear probes, which show what can be read from an entry's hidden state in every layer (paper, Figures 6 and 21).

A probe is a least-squares map without bias from hidden state to target. Each layer and target has one, which all
entries of a matrix share. The probe of masked_value is fitted on masked entries alone, and the others on all entries.
The targets of the entry (i, j) are

    masked_value      x_ij where it is masked: what the model has found out, not what it was told
    element_value     x_ij, masked or not
    masked_row        row i with its masked entries as 0
    masked_column     column j with its masked entries as 0
    singular_vector   the first left singular vector of X, with the sign that gives it a positive product
                      with column j. Either sign would do, and no linear map can find one that was fixed
                      without regard to the entry
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
MASKED_VALUE = "masked_value"  # the target that only masked entries have
# Eigenvalues of the Gram matrix below this share of the largest count as 0. Hidden states are float32, so a direction
# in which they extend 1e-6 as far as in the largest is rounding.
SMALLEST_EIGENVALUE = 1e-12


def top_left_singular_vectors(matrices: Tensor) -> Tensor:
    """Return for each column the first left singular vector whose product with the column is not negative.

    `matrices` is (B, rows, columns), and the result is (B, columns, rows).
    """
    vectors = torch.linalg.svd(matrices, full_matrices=False).U[:, :, 0]
    agree = torch.einsum("br,brc->bc", vectors, matrices) >= 0
    return torch.where(agree[..., None], vectors[:, None], -vectors[:, None])


def probe_targets(batch: Batch) -> dict[str, Tensor]:
    """Return the targets that every entry has, by name: (B, rows*columns, width), float64."""
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
    """Return the embeddings and the output of each layer: tokens (B, T) -> (layers + 1, B, T, H), float64."""
    states = []

    def keep(layer: int, hidden: Tensor) -> Tensor:
        states.append(hidden.double())
        return hidden

    model.forward_with_hooks(tokens, Hooks(hidden=keep))
    return torch.stack(states)


def fit(model: Bert, tokens: Tensor, targets: Tensor, chosen: Tensor) -> Tensor:
    """Fit the least-squares maps from hidden states to `targets` (B, T, D) at the `chosen` (B, T) entries.

    Returns one map for each layer, (layers + 1, H, D) float64. The normal equations are summed over chunks, so hidden
    states take the same memory for any number of matrices.
    """
    gram, cross = 0, 0
    for some_tokens, *some in zip(*(tensor.split(CHUNK_SIZE) for tensor in (tokens, targets, chosen)), strict=True):
        some_targets, some_chosen = (tensor.flatten(0, 1) for tensor in some)
        hidden = hidden_states(model, some_tokens).flatten(1, 2)[:, some_chosen]
        gram = gram + hidden.mT @ hidden
        cross = cross + hidden.mT @ some_targets[some_chosen]
    return torch.linalg.pinv(gram, rtol=SMALLEST_EIGENVALUE, hermitian=True) @ cross


def predict(model: Bert, tokens: Tensor, weights: Tensor) -> Tensor:
    """Return what the probes `weights` of `fit` read from the hidden states, (layers + 1, B, T, D)."""
    chunks = [hidden_states(model, some) @ weights[:, None] for some in tokens.split(CHUNK_SIZE)]
    return torch.cat(chunks, dim=1)


@torch.no_grad()
def probe(model: Bert, task: Task, batch: Batch, train_matrices: int) -> pd.DataFrame:
    """Fit probes on the first `train_matrices` matrices of the batch and measure them on the others.

    Returns one row for each target, group of test entries and layer:

        target        one of the targets above; MASKED_VALUE has rows for masked entries alone
        entries       all, observed or masked
        layer         0 for the embeddings, nan for the mean of the training targets as the prediction
        mse           the mean squared error of a component of the target
        relative_mse  the mse divided by that of the mean
        abs_cosine    the mean |cosine| of target and prediction over entries whose target is not zero; nan for targets
                      of width 1

    Each of the three measures is followed by its standard error over matrices, <name>_se.
    """
    targets, observed = probe_targets(batch), batch.observed.flatten(1)
    groups = {"all": observed | ~observed, "observed": observed, "masked": ~observed}
    value = {MASKED_VALUE: targets["element_value"]}
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
    """Return the rows of `probe` for `targets` that are all fitted on the same entries.

    They are fitted on the entries `fitted` (B, T) and measured on each of `groups`.
    """
    stacked = torch.cat(list(targets.values()), dim=-1)
    train, test = stacked[:train_matrices], stacked[train_matrices:]
    weights = fit(model, tokens[:train_matrices], train, fitted[:train_matrices])
    probed = predict(model, tokens[train_matrices:], weights)
    mean = train[fitted[:train_matrices]].mean(0).expand_as(test)
    widths = [target.shape[-1] for target in targets.values()]
    rows = []
    for layer, prediction in {math.nan: mean, **dict(enumerate(probed))}.items():
        by_target = (tensor.split(widths, dim=-1) for tensor in (prediction, mean, test))
        for name, *tensors in zip(targets, *by_target, strict=True):
            for group, chosen in groups.items():
                errors = probe_errors(*tensors, chosen[train_matrices:])
                rows.append({"target": name, "entries": group, "layer": layer, **errors})
    return rows


def probe_errors(prediction: Tensor, mean: Tensor, truth: Tensor, chosen: Tensor) -> dict[str, float]:
    """Return the measures of `probe` at the `chosen` (B, T) entries.

    `prediction`, `mean` (the prediction without any layer) and `truth` are (B, T, D).
    """

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
