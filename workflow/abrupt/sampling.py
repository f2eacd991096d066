"""Sampling of low-rank matrices and masks, and their tokens (the paper's set-up).

A batch is a pure function of (seed, stream, step). Nothing here reads or writes global random state, so a resumed run
sees exactly the batches that an uninterrupted run sees.
"""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from abrupt.errors import InputError
from abrupt.task import MASK_TOKEN, Task


class Batch(NamedTuple):
    """B matrices: tokens (B, rows*columns) int64; target, float32, and observed, bool, both (B, rows, columns)."""

    tokens: Tensor
    target: Tensor
    observed: Tensor

    def to(self, device: str) -> "Batch":
        """Return the same batch on `device`."""
        return Batch(*(tensor.to(device) for tensor in self))


def make_generator(seed: int, stream: str, step: int = 0, device: str = "cpu") -> torch.Generator:
    """Make a generator that depends on (seed, stream, step) alone.

    PyTorch's CPU generator keeps only 32 bits of its seed. If all three were hashed together, batches would therefore
    repeat by chance within one run. Here two steps of one stream always have different seeds.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=4).digest()
    state = (int.from_bytes(digest, "little") + step * 0x9E3779B1) % 2**32
    return torch.Generator(device=device).manual_seed(state)


def sample_factors(task: Task, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw iid entries from Unif[-scale, scale] (the paper's, at scale 1), N(0, scale^2) or Laplace(0, scale)."""
    device = generator.device
    if task.factor_law == "gaussian":
        return torch.randn(shape, generator=generator, device=device) * task.factor_scale
    symmetric = torch.rand(shape, generator=generator, device=device) * 2 - 1
    if task.factor_law == "laplace":  # by the inverse distribution function; rand may give 0, but never 1
        symmetric = -symmetric.sign() * torch.log1p(-symmetric.abs().clamp(max=1 - 2**-24))
    return symmetric * task.factor_scale


def sample_matrices(task: Task, batch_size: int, generator: torch.Generator) -> Tensor:
    """Draw matrices X = U V^T, (batch_size, rows, columns), rounded to `task.decimals` decimals."""
    left = sample_factors(task, (batch_size, task.rows, task.rank), generator)
    right = sample_factors(task, (batch_size, task.columns, task.rank), generator)
    scale = 10**task.decimals
    return torch.round(left @ right.mT * scale) / scale


def sample_observed(task: Task, batch_size: int, generator: torch.Generator) -> Tensor:
    """Draw which entries are observed, bool (batch_size, rows, columns). Each is False with `mask_probability`."""
    shape = (batch_size, task.rows, task.columns)
    return torch.rand(shape, generator=generator, device=generator.device) >= task.mask_probability


def token_ids(task: Task, values: Tensor) -> Tensor:
    """Return the token id of each value, 1 + 10^decimals * (value + max_value), int64 in the same shape.

    Raises InputError, which names value and range, for a value that is nan or outside [-max_value, max_value].
    """
    limit = task.max_value
    outside = ~(values.abs() <= limit)  # nan is outside too
    if outside.any():
        raise InputError(
            f"value {values[outside][0].item():.4g} is outside the vocabulary [-{limit}, {limit}]: "
            "raise task.max_value or scale the matrices down"
        )
    return token_ids_in_range(task, values)


def token_ids_in_range(task: Task, values: Tensor) -> Tensor:
    """Return the `token_ids` of values that cannot be out of range.

    They are not checked, because a check would make the CPU wait for the GPU.
    """
    return torch.round(values * 10**task.decimals).long() + (task.max_value * 10**task.decimals + 1)


def tokenise(task: Task, matrices: Tensor, observed: Tensor) -> Tensor:
    """Return row-major token ids (B, rows*columns): the value's id where it is observed, and MASK elsewhere.

    Raises InputError for a value outside the vocabulary.
    """
    return torch.where(observed, token_ids(task, matrices), MASK_TOKEN).flatten(1)


def sample_batch(task: Task, batch_size: int, seed: int, stream: str, step: int = 0, device: str = "cpu") -> Batch:
    """Draw the batch of (seed, stream, step) on `device`. CPU and CUDA draw different numbers.

    Raises InputError, which names value and range, if an entry is outside the vocabulary.
    """
    generator = make_generator(seed, stream, step, device)
    target = sample_matrices(task, batch_size, generator)
    observed = sample_observed(task, batch_size, generator)
    if task.bounded:
        tokens = torch.where(observed, token_ids_in_range(task, target), MASK_TOKEN).flatten(1)
    else:
        tokens = tokenise(task, target, observed)
    return Batch(tokens, target, observed)
