"""Permuted positions: entries get the position embeddings of other entries.

The authors' code does this, but the paper has no figure of it. The kind of permutation shows which part of the
structure the model needs:

    rows_and_columns   whole rows and whole columns change places. The law of the matrices stays the
                       same, so the error must stay the same: this is the control
    within_rows        entries keep their row and lose their column
    within_columns     entries keep their column and lose their row
    everywhere         entries lose both
"""

import pandas as pd
import torch
from torch import Tensor

from abrupt.analyses import mean_errors, per_checkpoint
from abrupt.models.bert import Bert
from abrupt.sampling import Batch, make_generator
from abrupt.task import Task

KINDS = ("rows_and_columns", "within_rows", "within_columns", "everywhere")


def permuted_positions(task: Task, kind: str, generator: torch.Generator) -> Tensor:
    """Draw the position whose embedding each entry gets, (rows*columns,) int64."""
    positions = torch.arange(task.num_entries).reshape(task.rows, task.columns)
    if kind == "rows_and_columns":
        rows, columns = (torch.randperm(size, generator=generator) for size in positions.shape)
        return positions[rows][:, columns].flatten()
    if kind == "everywhere":
        return torch.randperm(task.num_entries, generator=generator)
    axis = {"within_columns": 0, "within_rows": 1}[kind]
    order = torch.rand(positions.shape, generator=generator).argsort(axis)
    return positions.gather(axis, order).flatten()


def predict(model: Bert, tokens: Tensor, positions: Tensor) -> Tensor:
    """Return the predictions (B, T) when entry t has the position embedding of `positions[t]`.

    Only the position embeddings tell the places of a sequence apart. So the entries are moved to those places, and the
    predictions are moved back.
    """
    moved = torch.empty_like(tokens)
    moved[:, positions] = tokens
    return model(moved)[:, positions]


@torch.no_grad()
def permute(model: Bert, task: Task, batch: Batch, permutations: int) -> pd.DataFrame:
    """Return one row without permutation (kind none) and `permutations` rows for each of KINDS.

    The permutations are the same for every model. The columns are kind, permutation (from 1) and those of
    `mean_errors`.
    """
    identity = torch.arange(task.num_entries)
    trials = [("none", 1, identity)]
    for kind in KINDS:
        for number in range(1, permutations + 1):
            generator = make_generator(number, f"permuted_positions/{kind}")
            trials.append((kind, number, permuted_positions(task, kind, generator)))
    rows = []
    for kind, number, positions in trials:
        prediction = predict(model, batch.tokens, positions.to(batch.tokens.device))
        rows.append({"kind": kind, "permutation": number, **mean_errors(prediction, batch)})
    return pd.DataFrame(rows)


measure = per_checkpoint(permute)
