"""Training objectives, which give the training loop its batches, their loss, and what is logged.

An objective has the methods of `MatrixCompletion` and these attributes:

    columns, eval_columns  what a logged row has besides the step
    num_sums               how many sums the values of `columns` are computed from
    length                 the number of tokens of the longest sequence
"""

from dataclasses import replace

import torch
from torch import Tensor

from abrupt.models.bert import Bert
from abrupt.sampling import Batch, make_generator, sample_batch
from abrupt.task import Task

COLUMNS = ("mse_all", "mse_observed", "mse_masked", "abs_prediction_masked")
EVAL_COLUMNS = tuple(f"eval_{name}" for name in (*COLUMNS, "correlation_masked"))


def in_full_precision(output: Tensor) -> Tensor:
    """Return a model's output as float32, if autocast made it less.

    Losses and logged values are thus never rounded further.
    """
    return output.to(torch.promote_types(output.dtype, torch.float32))


def error_sums(prediction: Tensor, batch: Batch) -> Tensor:
    """Return sums over a batch, (5,) float64. `prediction` is (B, rows*columns).

    The sums are squared error and count of the observed entries, then squared error, count and absolute prediction of
    the masked entries.
    """
    masked = ~batch.observed.flatten(1)
    squared = (prediction - batch.target.flatten(1)) ** 2
    squared_masked = (squared * masked).sum()
    count_masked = masked.sum()
    sums = [
        squared.sum() - squared_masked,
        masked.numel() - count_masked,
        squared_masked,
        count_masked,
        (prediction.abs() * masked).sum(),
    ]
    return torch.stack([value.double() for value in sums])


def means(sums: Tensor) -> Tensor:
    """Return the values of `COLUMNS`, (4,), from `error_sums` that are added over batches.

    A value is nan if no entry of its kind was seen.
    """
    observed, count_observed, masked, count_masked, absolute = sums
    return torch.stack(
        [
            (observed + masked) / (count_observed + count_masked),
            observed / count_observed,
            masked / count_masked,
            absolute / count_masked,
        ]
    )


class MatrixCompletion:
    """The paper's loss: the mean squared error over all entries, for matrices of one or several `tasks`.

    The tasks differ in size. Each update draws one of them, all with the same probability (Figure 16). If there are
    several, the masked-entry MSE of each is logged too. An evaluation has matrices of all.
    """

    eval_columns = EVAL_COLUMNS

    def __init__(self, *tasks: Task):
        self.tasks = tasks
        task_columns = [f"mse_masked_{task.rows}x{task.columns}" for task in tasks] if len(tasks) > 1 else []
        self.columns = (*COLUMNS, *task_columns)
        self.num_sums = 5 * len(tasks)
        self.length = max(task.num_entries for task in tasks)

    @classmethod
    def for_sizes(cls, task: Task, sizes: list[int]) -> "MatrixCompletion":
        """Make the objective for square matrices of each of `sizes`, or for `task` if there are none."""
        tasks = [replace(task, rows=size, columns=size) for size in sizes]
        return cls(*(tasks or [task]))

    def sample(self, batch_size: int, seed: int, stream: str, step: int, device: str) -> Batch:
        """Draw the batch of one update, which is a pure function of (seed, stream, step)."""
        task = self.tasks[0]
        if len(self.tasks) > 1:
            generator = make_generator(seed, f"{stream}/task", step)
            task = self.tasks[int(torch.randint(len(self.tasks), (), generator=generator))]
        return sample_batch(task, batch_size, seed, stream, step, device)

    def eval_batches(self, batch_size: int, seed: int, device: str) -> list[Batch]:
        """Draw one held-out batch for each task, on the CPU whatever the device."""
        return [sample_batch(task, batch_size, seed, "eval").to(device) for task in self.tasks]

    def loss(self, model: Bert, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise, and the sums of what is logged, (num_sums,).

        The trainer adds the sums over updates and gives them to `means`.
        """
        prediction = in_full_precision(model(batch.tokens))
        loss = torch.mean((prediction - batch.target.flatten(1)) ** 2)
        batch_sums = error_sums(prediction.detach(), batch)
        sums = batch_sums.new_zeros(len(self.tasks), len(batch_sums))
        shapes = [(task.rows, task.columns) for task in self.tasks]
        sums[shapes.index(batch.target.shape[1:])] = batch_sums
        return loss, sums.flatten()

    def means(self, sums: Tensor) -> Tensor:
        """Return the values of `columns`. The MSE of a task that no update drew is nan."""
        sums = sums.view(len(self.tasks), -1)
        total = means(sums.sum(0))
        if len(self.tasks) == 1:
            return total
        return torch.cat([total, sums[:, 2] / sums[:, 3]])

    @torch.no_grad()
    def evaluate(self, model: Bert, batches: list[Batch]) -> Tensor:
        """Return the values of `eval_columns` over all batches.

        The correlation is between prediction and truth over masked entries, and nan if either is constant.
        """
        sums, pairs = 0, []
        for batch in batches:
            prediction = model(batch.tokens)
            masked = ~batch.observed.flatten(1)
            sums = sums + error_sums(prediction, batch)
            pairs.append(torch.stack([prediction[masked], batch.target.flatten(1)[masked]]))
        correlation = torch.corrcoef(torch.cat(pairs, dim=1).double())[0, 1]
        return torch.cat([means(sums), correlation[None]])
