"""The time that a run would take on this machine, estimated before it starts."""

import time

import torch

from abrupt.errors import InputError
from abrupt.models.bert import BertConfig

SECONDS_PER_DAY = 86400
SLOW_DAYS = 0.5


def training_flops(config: BertConfig, batch_size: int, length: int) -> float:
    """Return the floating-point operations of one update.

    Only matrix products count. The backward pass has twice the operations of the forward pass.
    """
    weights = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    attention = 2 * length * config.hidden_size
    return 6.0 * batch_size * length * config.num_hidden_layers * (weights + attention)


def measured_flops_per_second(size: int = 1024, seconds: float = 0.5) -> float:
    """Measure the speed of a square float32 matrix product on the CPU, with PyTorch's current threads."""
    a = torch.ones(size, size)
    a @ a
    start, count = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        a @ a
        count += 1
    return 2.0 * size**3 * count / (time.monotonic() - start)


def refuse_if_slow(flops: float, device: str, scale: str, allow_slow: bool) -> None:
    """Raise InputError, which names the days, if a CPU run of `flops` is at paper scale or would take over half a day.

    It refuses nothing on a GPU, or if `allow_slow` is set.
    """
    if device != "cpu" or allow_slow:
        return
    speed = measured_flops_per_second()
    days = flops / speed / SECONDS_PER_DAY
    if scale == "paper" or days > SLOW_DAYS:
        raise InputError(
            f"this run would take about {days:.1f} days on this CPU ({flops:.2g} operations at {speed / 1e9:.0f} "
            "GFLOP/s): use a GPU (device: auto), a smaller scale, or set allow_slow: true"
        )
