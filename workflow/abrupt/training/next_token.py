"""The objective of the decoder: next-token prediction of [masked X, SEP, X] (paper, Figures 11 and 12).

The decoder predicts each entry of X from the masked X, SEP and the true entries before it. It does not have to predict
the masked X, which nothing before it determines.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from abrupt.models.gpt import Gpt
from abrupt.sampling import Batch, sample_batch, token_ids_in_range
from abrupt.task import Task
from abrupt.training.objectives import in_full_precision

CHUNK_SIZE = 32
COLUMNS = (
    "cross_entropy",
    "cross_entropy_observed",
    "cross_entropy_masked",
    "accuracy_observed",
    "accuracy_masked",
)
EVAL_COLUMNS = (*(f"eval_{name}" for name in COLUMNS), "eval_mse_masked", "eval_marginal_entropy")


def sequences(task: Task, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the inputs (B, 2T), and the tokens to predict from position T on (B, T), for T = rows*columns entries.

    The inputs are the masked X, SEP, and X without its last entry. SEP has the first id after the task's vocabulary.
    """
    labels = token_ids_in_range(task, batch.target).flatten(1)
    separator = torch.full_like(labels[:, :1], task.vocab_size)
    return torch.cat([batch.tokens, separator, labels[:, :-1]], dim=1), labels


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each token in nats: logits (B, T, V), labels (B, T) -> (B, T)."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)


def token_sums(cross_entropy: Tensor, right: Tensor, observed: Tensor) -> Tensor:
    """Return sums over a batch, (6,) float64. All arguments are (B, T).

    The sums are cross-entropy, right predictions and count of the observed entries, then the same of the masked
    entries.
    """
    sums = []
    for group in (observed, ~observed):
        sums += [(cross_entropy * group).sum(), (right & group).sum(), group.sum()]
    return torch.stack([value.double() for value in sums])


def means(sums: Tensor) -> Tensor:
    """Return the values of `COLUMNS`, (5,), from `token_sums` that are added over batches.

    A value is nan if no entry of its kind was seen.
    """
    observed, right_observed, count_observed, masked, right_masked, count_masked = sums
    return torch.stack(
        [
            (observed + masked) / (count_observed + count_masked),
            observed / count_observed,
            masked / count_masked,
            right_observed / count_observed,
            right_masked / count_masked,
        ]
    )


def expected_values(task: Task, logits: Tensor) -> Tensor:
    """Return the mean of the predicted distribution over values: logits (..., vocabulary with SEP) -> (...).

    MASK and SEP have no value and are left out of the distribution.
    """
    units = torch.arange(-task.max_value * 10**task.decimals, task.max_value * 10**task.decimals + 1)
    values = (units / 10**task.decimals).to(logits)
    return torch.softmax(logits[..., 1:-1], dim=-1) @ values


def marginal_entropy(tokens: Tensor) -> Tensor:
    """Return the entropy of the tokens' frequencies in nats.

    It is the cross-entropy of a model that predicts these frequencies at every position.
    """
    frequency = tokens.flatten().bincount() / tokens.numel()
    return -torch.xlogy(frequency, frequency).sum()


class NextTokenPrediction:
    """The mean cross-entropy over the entries of X, as an objective (see `objectives.py`)."""

    columns = COLUMNS
    eval_columns = EVAL_COLUMNS
    num_sums = 6

    def __init__(self, task: Task):
        self.task = task
        self.length = 2 * task.num_entries

    def sample(self, batch_size: int, seed: int, stream: str, step: int, device: str) -> Batch:
        """Draw the batch of one update, which is a pure function of (seed, stream, step)."""
        return sample_batch(self.task, batch_size, seed, stream, step, device)

    def eval_batches(self, batch_size: int, seed: int, device: str) -> list[Batch]:
        """Draw one held-out batch, on the CPU whatever the device."""
        return [sample_batch(self.task, batch_size, seed, "eval").to(device)]

    def loss(self, model: Gpt, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise, and the sums of what is logged, (num_sums,).

        The trainer adds the sums over updates and gives them to `means`.
        """
        loss, sums, _ = self._measured(model, batch)
        return loss, sums

    def means(self, sums: Tensor) -> Tensor:
        """Return the values of `columns`."""
        return means(sums)

    @torch.no_grad()
    def evaluate(self, model: Gpt, batches: list[Batch]) -> Tensor:
        """Return the values of `eval_columns`.

        Besides those of `columns` they are the squared error of the expected value at masked entries, and the entropy
        of the held-out entries' marginal law.
        """
        (batch,) = batches
        _, sums, logits = self._measured(model, batch)
        squared = (expected_values(self.task, logits) - batch.target.flatten(1)) ** 2
        mse_masked = squared[~batch.observed.flatten(1)].mean()
        entropy = marginal_entropy(token_ids_in_range(self.task, batch.target))
        return torch.cat([means(sums), torch.stack([mse_masked, entropy]).double()])

    def _measured(self, model: Gpt, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return loss, sums and the logits of X, (B, T, vocabulary)."""
        tokens, labels = sequences(self.task, batch)
        logits = in_full_precision(model(tokens, start=labels.shape[1]))
        cross_entropy = cross_entropies(logits, labels)
        sums = token_sums(cross_entropy.detach(), logits.argmax(-1) == labels, batch.observed.flatten(1))
        return cross_entropy.mean(), sums, logits


@torch.no_grad()
def mean_attention(model: Gpt, task: Task, batch: Batch) -> Tensor:
    """Return the attention weights averaged over the batch, (layers, heads, query 2T, key 2T) float32.

    The batch passes through the model in chunks.
    """
    tokens, _ = sequences(task, batch)
    total = sum(model.attention_weights(chunk).double().sum(0) for chunk in tokens.split(CHUNK_SIZE))
    return (total / len(tokens)).float()
