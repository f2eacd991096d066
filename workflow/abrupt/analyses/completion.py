"""How well the last model completes matrices of its own task and of others (paper, Figures 3 and 19)."""

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
    """Draw the held-out matrices of `task`, and leave out each matrix with an entry that has no token.

    Returns the numbers of the matrices that are kept, (N,) int64, and their batch. Tasks that differ only in
    `mask_probability` have the same matrices, and an entry that is masked at one probability is masked at every larger
    one too.
    """
    generator = make_generator(seed, STREAM)
    target = sample_matrices(task, matrices, generator)
    observed = sample_observed(task, matrices, generator)
    (kept,) = (target.abs() <= task.max_value).flatten(1).all(1).nonzero(as_tuple=True)
    target, observed = target[kept], observed[kept]
    return kept, Batch(tokenise(task, target, observed), target, observed)


def held_out_per_task(task: Task, shifts: dict[str, Any], matrices: int, seed: int) -> list[tuple[Task, Tensor, Batch]]:
    """Return (task, numbers, batch) of `held_out_in_vocabulary` for `task` and for each of its `shifts`.

    `shifts` is the section `analyses.completion.shifts` of the config. Raises InputError if one of the tasks has no
    matrix with a token for every entry.
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
    """Return one row for each matrix: its errors, and the nuclear norms of prediction and truth.

    The errors are the MSE over all, observed and masked entries, nan where a matrix has none. `prediction` is (B, rows,
    columns).
    """
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


def with_task_columns(errors: pd.DataFrame, task: Task, numbers: Tensor) -> pd.DataFrame:
    """Put columns in front of `errors` that say the task and the number of each matrix."""
    about = pd.DataFrame({name: getattr(task, name) for name in TASK_COLUMNS} | {"matrix": numbers})
    return pd.concat([about, errors], axis="columns")


@torch.no_grad()
def complete(model: Bert, batch: Batch) -> pd.DataFrame:
    """Return the `per_matrix_errors` of the model's predictions for `batch`."""
    batch = batch.to(model.device)
    return per_matrix_errors(model(batch.tokens).reshape(batch.target.shape), batch)


def measure(models: Mapping[int, Bert], task: Task, seed: int, matrices: int, shifts: dict[str, Any]) -> pd.DataFrame:
    """Return the errors of the last model on `task` and on each of its `shifts`, one row for each matrix."""
    last = max(models)
    model = models[last]
    tables = []
    for shifted, numbers, batch in held_out_per_task(task, shifts, matrices, seed):
        tables.append(with_task_columns(complete(model, batch), shifted, numbers))
    return pd.concat(tables, ignore_index=True).assign(step=last)
