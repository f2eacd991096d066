"""Interleaved timing: contenders take turns in one process, so that whatever else the machine does hits all alike."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm


@dataclass(frozen=True)
class Contender:
    """Something to time: `run()` is one step, of `flops` operations.

    `reference` names the contender of the same group that it is compared with, `ceiling` the matrix product; `value`
    is the number that is varied in the group, if any.
    """

    name: str
    run: Callable[[], None]
    threads: int = 1
    flops: float = math.nan
    reference: str = ""
    ceiling: str = "sgemm"
    value: float = math.nan


def milliseconds(contender: Contender, steps: int) -> float:
    """Wall time of one of `steps` steps; after a change of threads there is one more before the clock starts."""
    if torch.get_num_threads() != contender.threads:
        torch.set_num_threads(contender.threads)
        contender.run()
    _synchronise()
    start = time.perf_counter()
    for _ in range(steps):
        contender.run()
    _synchronise()
    return 1000 * (time.perf_counter() - start) / steps


def _synchronise() -> None:
    """Wait for what was queued on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Pace:
    """How each contender is timed: `seconds` a turn, at least `least_steps` in all turns, after `warm_up` steps: one
    loads libraries and compiles, on a GPU two more record a graph and replay it."""

    seconds: float
    warm_up: int = 1
    least_steps: int = 1


def steps_per_turn(contender: Contender, turns: int, pace: Pace) -> int:
    """How many steps to time in a turn."""
    for _ in range(pace.warm_up):
        contender.run()
    return max(1, round(1000 * pace.seconds / milliseconds(contender, 1)), math.ceil(pace.least_steps / turns))


def interleaved(contenders: list[Contender], turns: int, pace: Pace, label: str) -> np.ndarray:
    """Milliseconds a step, (contender, turn). Every second round goes backwards, against drift of the machine."""
    threads = torch.get_num_threads()
    steps = [steps_per_turn(contender, turns, pace) for contender in contenders]
    times = np.empty((len(contenders), turns))
    for turn in tqdm(range(turns), desc=label, unit="round"):
        order = range(len(contenders))
        for index in reversed(order) if turn % 2 else order:
            times[index, turn] = milliseconds(contenders[index], steps[index])
    torch.set_num_threads(threads)
    return times


def spread(values: np.ndarray) -> tuple[float, float, float]:
    """Median and quartiles."""
    return tuple(np.quantile(values, (0.5, 0.25, 0.75)))
