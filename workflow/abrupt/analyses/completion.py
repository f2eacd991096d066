"""How well the last model completes matrices of its task and of others, one row a matrix (paper, Figures 3 and 19)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from abrupt.analyses import STREAM
from abrupt.errors import InputError
from abrupt.models.bert import Bert
from abrupt.sampling import Batch, make_generator, sample_matrices, sample_observed, tokenise
from abrupt.task import TASK_COLUMNS, Task, all_tasks


def held_out_in_vocabulary(task: Task, matrices: int, seed: int) -> tuple[Tensor, Batch]:
    """The held-out matrices of `task` but for those with an entry that has no token: their numbers, and the batch.

    Tasks that differ in `mask_probability` alone share matrices, and a mask hides what one of a smaller one hides.
    """
    generator = make_generator(seed, STREAM)
    target = sample_matrices(task, matrices, generator)
    observed = sample_observed(task, matrices, generator)
    (kept,) = (target.abs() <= task.max_value).flatten(1).all(1).nonzero(as_tuple=True)
    target, observed = target[kept], observed[kept]
    return kept, Batch(tokenise(task, target, observed), target, observed)


def held_out_of_each(task: Task, shifts: dict[str, Any], matrices: int, seed: int) -> list[tuple[Task, Tensor, Batch]]:
    """`task` and each of its `shifts` (see abrupt.task), as dicts, with its `held_out_in_vocabulary`.

    Raises InputError if no matrix of one of them has a token for every entry.
    """
    batches = []
    for shifted in all_tasks(task, shifts):
        numbers, batch = held_out_in_vocabulary(shifted, matrices, seed)
        if not len(numbers):
            raise InputError(
                f"config: analyses.completion.shifts: with {task.difference(shifted)}, none of {matrices} matrices has "
                f"all entries in [-{task.max_value}, {task.max_value}]: remove that value, or raise task.max_value"
            )
        batches.append((shifted, numbers, batch))
    return batches


def per_matrix_errors(prediction: Tensor, batch: Batch) -> pd.DataFrame:
    """One row a matrix: MSE over all, observed and masked entries (nan where there are none), and the nuclear norms
    of prediction and truth. `prediction` is (B, rows, columns)."""
    squared = (prediction - batch.target) ** 2

    def mean(entries: Tensor) -> Tensor:
        return ((squared * entries).sum((1, 2)) / entries.sum((1, 2))).cpu()

    return pd.DataFrame(
        {
            "mse_all": mean(torch.ones_like(batch.observed)),
            "mse_observed": mean(batch.observed),
            "mse_masked": mean(~batch.observed),
            "nuclear_norm": torch.linalg.svdvals(prediction).sum(-1).cpu(),
            "nuclear_norm_truth": torch.linalg.svdvals(batch.target).sum(-1).cpu(),
        }
    )


def tagged(errors: pd.DataFrame, task: Task, numbers: Tensor) -> pd.DataFrame:
    """`errors`, with what task they are of and the number of each matrix in front."""
    about = pd.DataFrame({name: getattr(task, name) for name in TASK_COLUMNS} | {"matrix": numbers})
    return pd.concat([about, errors], axis="columns")


@torch.no_grad()
def complete(model: Bert, batch: Batch) -> pd.DataFrame:
    """`per_matrix_errors` of the model's output for every matrix in the batch."""
    batch = batch.to(model.device)
    return per_matrix_errors(model(batch.tokens).reshape(batch.target.shape), batch)


def measure(models: Mapping[int, Bert], task: Task, seed: int, matrices: int, shifts: dict[str, Any]) -> pd.DataFrame:
    """Errors of the last model on `matrices` matrices of `task` and of each of its `shifts` (see abrupt.task)."""
    last = max(models)
    model = models[last]
    tables = []
    for shifted, numbers, batch in held_out_of_each(task, shifts, matrices, seed):
        tables.append(tagged(complete(model, batch), shifted, numbers))
    return pd.concat(tables, ignore_index=True).assign(step=last)
