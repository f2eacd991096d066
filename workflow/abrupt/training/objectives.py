"""What is trained: batches, their loss, and what is logged of it. The training loop knows none of the three.

An objective has `columns` and `eval_columns`, what a logged row holds besides the step, `num_sums`, how
many sums lie behind the former, and the methods of `MatrixCompletion`.
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
    """A model's output as float32 if autocast made it less; losses and what is logged are never rounded further."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


def error_sums(prediction: Tensor, batch: Batch) -> Tensor:
    """Sums over a batch, as float64 (5,): squared error and count of the observed entries, squared
    error, count and absolute prediction of the masked entries. `prediction` is (B, rows*columns)."""
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
    """`COLUMNS` from `error_sums` added over batches: nan where no such entry was seen."""
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
    """Mean squared error over all entries (the paper's loss) of matrices of `tasks`, which differ in size.

    With several tasks each update draws one of them, each as likely (Figure 16), and the masked-entry MSE of
    each is logged too; an evaluation has all.
    """

    eval_columns = EVAL_COLUMNS

    def __init__(self, *tasks: Task):
        self.tasks = tasks
        of_tasks = [f"mse_masked_{task.rows}x{task.columns}" for task in tasks] if len(tasks) > 1 else []
        self.columns = (*COLUMNS, *of_tasks)
        self.num_sums = 5 * len(tasks)
        self.length = max(task.num_entries for task in tasks)  # tokens of the longest sequence

    @classmethod
    def of_sizes(cls, task: Task, sizes: list[int]) -> "MatrixCompletion":
        """Of the config's `task`, or of square matrices of each of `sizes` if there are any."""
        tasks = [replace(task, rows=size, columns=size) for size in sizes]
        return cls(*(tasks or [task]))

    def sample(self, batch_size: int, seed: int, stream: str, step: int, device: str) -> Batch:
        """The batch of one update, a pure function of (seed, stream, step)."""
        task = self.tasks[0]
        if len(self.tasks) > 1:
            generator = make_generator(seed, f"{stream}/task", step)
            task = self.tasks[int(torch.randint(len(self.tasks), (), generator=generator))]
        return sample_batch(task, batch_size, seed, stream, step, device)

    def eval_batches(self, batch_size: int, seed: int, device: str) -> list[Batch]:
        """Held-out batches, one for each task, drawn on the CPU whatever the device."""
        return [sample_batch(task, batch_size, seed, "eval").to(device) for task in self.tasks]

    def loss(self, model: Bert, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss to minimise, and sums of what is logged: they are added over updates, then go to `means`."""
        prediction = in_full_precision(model(batch.tokens))
        loss = torch.mean((prediction - batch.target.flatten(1)) ** 2)
        of_batch = error_sums(prediction.detach(), batch)
        sums = of_batch.new_zeros(len(self.tasks), len(of_batch))
        shapes = [(task.rows, task.columns) for task in self.tasks]
        sums[shapes.index(batch.target.shape[1:])] = of_batch
        return loss, sums.flatten()

    def means(self, sums: Tensor) -> Tensor:
        """The values of `columns`: nan for a task that no update drew."""
        sums = sums.view(len(self.tasks), -1)
        total = means(sums.sum(0))
        if len(self.tasks) == 1:
            return total
        return torch.cat([total, sums[:, 2] / sums[:, 3]])

    @torch.no_grad()
    def evaluate(self, model: Bert, batches: list[Batch]) -> Tensor:
        """The values of `eval_columns` over all batches; the correlation is between prediction and truth
        over masked entries, nan if either is constant."""
        sums, pairs = 0, []
        for batch in batches:
            prediction = model(batch.tokens)
            masked = ~batch.observed.flatten(1)
            sums = sums + error_sums(prediction, batch)
            pairs.append(torch.stack([prediction[masked], batch.target.flatten(1)[masked]]))
        correlation = torch.corrcoef(torch.cat(pairs, dim=1).double())[0, 1]
        return torch.cat([means(sums), correlation[None]])
