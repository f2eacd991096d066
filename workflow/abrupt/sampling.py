"""Sampling low-rank matrices, masking entries, tokenising (the paper's set-up).

A batch is a pure function of (seed, stream, step): no global random state is read or written, so a
resumed run sees exactly the batches that it would have seen.
"""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from abrupt.errors import InputError
from abrupt.task import MASK_TOKEN, Task


class Batch(NamedTuple):
    """tokens (B, rows*columns) int64, target (B, rows, columns) float32, observed (B, rows, columns) bool."""

    tokens: Tensor
    target: Tensor
    observed: Tensor

    def to(self, device: str) -> "Batch":
        """The same batch on `device`."""
        return Batch(*(tensor.to(device) for tensor in self))


def make_generator(seed: int, stream: str, step: int = 0, device: str = "cpu") -> torch.Generator:
    """A generator that depends on (seed, stream, step) alone.

    PyTorch's CPU generator keeps 32 bits of its seed, so hashing all three together would repeat
    batches by chance within one run. Here two steps of one stream always have different seeds.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=4).digest()
    state = (int.from_bytes(digest, "little") + step * 0x9E3779B1) % 2**32
    return torch.Generator(device=device).manual_seed(state)


def sample_factors(task: Task, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Entries iid Unif[-scale, scale] (the paper's, at scale 1), N(0, scale^2) or Laplace(0, scale)."""
    device = generator.device
    if task.factor_law == "gaussian":
        return torch.randn(shape, generator=generator, device=device) * task.factor_scale
    symmetric = torch.rand(shape, generator=generator, device=device) * 2 - 1
    if task.factor_law == "laplace":  # inverse of the distribution function; rand never gives 1, but 0
        symmetric = -symmetric.sign() * torch.log1p(-symmetric.abs().clamp(max=1 - 2**-24))
    return symmetric * task.factor_scale


def sample_matrices(task: Task, batch_size: int, generator: torch.Generator) -> Tensor:
    """Matrices X = U V^T, shape (batch_size, rows, columns), rounded to `task.decimals` decimals."""
    left = sample_factors(task, (batch_size, task.rows, task.rank), generator)
    right = sample_factors(task, (batch_size, task.columns, task.rank), generator)
    scale = 10**task.decimals
    return torch.round(left @ right.mT * scale) / scale


def sample_observed(task: Task, batch_size: int, generator: torch.Generator) -> Tensor:
    """Which entries are observed: (batch_size, rows, columns) bool, each False with `mask_probability`."""
    shape = (batch_size, task.rows, task.columns)
    return torch.rand(shape, generator=generator, device=generator.device) >= task.mask_probability


def token_ids(task: Task, values: Tensor) -> Tensor:
    """The token id of each value: 1 + 10^decimals * (value + max_value), int64, same shape.

    Raises InputError, naming value and range, for a value outside [-max_value, max_value].
    """
    limit = task.max_value
    outside = ~(values.abs() <= limit)  # so that nan is outside
    if outside.any():
        raise InputError(
            f"value {values[outside][0].item():.4g} is outside the vocabulary [-{limit}, {limit}]: "
            "raise task.max_value or scale the matrices down"
        )
    return token_ids_in_range(task, values)


def token_ids_in_range(task: Task, values: Tensor) -> Tensor:
    """`token_ids` of values that cannot be outside: without a check a GPU is not waited for."""
    return torch.round(values * 10**task.decimals).long() + (task.max_value * 10**task.decimals + 1)


def tokenise(task: Task, matrices: Tensor, observed: Tensor) -> Tensor:
    """Row-major token ids (B, rows*columns): the value's id where observed, MASK elsewhere.

    Raises InputError for a value outside the vocabulary.
    """
    return torch.where(observed, token_ids(task, matrices), MASK_TOKEN).flatten(1)


def sample_batch(task: Task, batch_size: int, seed: int, stream: str, step: int = 0, device: str = "cpu") -> Batch:
    """The batch at (seed, stream, step), sampled on `device`. CPU and CUDA draw different numbers.

    Raises InputError, naming value and range, if an entry is outside the vocabulary.
    """
    generator = make_generator(seed, stream, step, device)
    target = sample_matrices(task, batch_size, generator)
    observed = sample_observed(task, batch_size, generator)
    if task.bounded:
        tokens = torch.where(observed, token_ids_in_range(task, target), MASK_TOKEN).flatten(1)
    else:
        tokens = tokenise(task, target, observed)
    return Batch(tokens, target, observed)
