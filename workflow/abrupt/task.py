"""The matrix-completion task: sampling low-rank matrices, masking entries, tokenising (the paper's set-up).

A batch is a pure function of (seed, stream, step): no global random state is read or written, so a
resumed run sees exactly the batches that it would have seen.
"""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

MASK_TOKEN = 0


def uniform_factors(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Factor entries iid Unif[-1, 1] (the paper's set-up)."""
    return torch.rand(shape, generator=generator, device=generator.device) * 2 - 1


@dataclass(frozen=True)
class Task:
    """Rounded rank-`rank` matrices of `rows` x `columns` entries, each masked with `mask_probability`.

    `decimals` is the rounding of the entries; the vocabulary holds every rounded value in
    [-max_value, max_value], one token id each, after the MASK token with id 0.
    """

    rows: int
    columns: int
    rank: int
    mask_probability: float
    decimals: int
    max_value: int

    @property
    def num_entries(self) -> int:
        return self.rows * self.columns

    @property
    def vocab_size(self) -> int:
        return 2 * self.max_value * 10**self.decimals + 2


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


def sample_matrices(task: Task, batch_size: int, generator: torch.Generator) -> Tensor:
    """Matrices X = U V^T, shape (batch_size, rows, columns), rounded to `task.decimals` decimals."""
    left = uniform_factors((batch_size, task.rows, task.rank), generator)
    right = uniform_factors((batch_size, task.columns, task.rank), generator)
    scale = 10**task.decimals
    return torch.round(left @ right.mT * scale) / scale


def sample_observed(task: Task, batch_size: int, generator: torch.Generator) -> Tensor:
    """Which entries are observed: (batch_size, rows, columns) bool, each False with `mask_probability`."""
    shape = (batch_size, task.rows, task.columns)
    return torch.rand(shape, generator=generator, device=generator.device) >= task.mask_probability


def token_ids(task: Task, values: Tensor) -> Tensor:
    """The token id of each value: 1 + 10^decimals * (value + max_value), int64, same shape.

    Raises ValueError, naming value and range, for a value outside [-max_value, max_value].
    """
    limit = task.max_value
    outside = ~(values.abs() <= limit)  # so that nan is outside
    if outside.any():
        raise ValueError(
            f"value {values[outside][0].item():.4g} is outside the vocabulary [-{limit}, {limit}]: "
            "raise task.max_value or scale the matrices down"
        )
    return _token_ids_in_range(task, values)


def _token_ids_in_range(task: Task, values: Tensor) -> Tensor:
    return torch.round(values * 10**task.decimals).long() + (task.max_value * 10**task.decimals + 1)


def tokenise(task: Task, matrices: Tensor, observed: Tensor) -> Tensor:
    """Row-major token ids (B, rows*columns): the value's id where observed, MASK elsewhere.

    Raises ValueError for a value outside the vocabulary.
    """
    return torch.where(observed, token_ids(task, matrices), MASK_TOKEN).flatten(1)


def sample_batch(task: Task, batch_size: int, seed: int, stream: str, step: int = 0, device: str = "cpu") -> Batch:
    """The batch at (seed, stream, step), sampled on `device`. CPU and CUDA draw different numbers."""
    generator = make_generator(seed, stream, step, device)
    target = sample_matrices(task, batch_size, generator)
    observed = sample_observed(task, batch_size, generator)
    # |x| <= rank <= max_value for uniform factors (checked with the config): no check, no device sync.
    tokens = torch.where(observed, _token_ids_in_range(task, target), MASK_TOKEN).flatten(1)
    return Batch(tokens, target, observed)
