"""The training loop of every trained model: online training with Adam (the paper's set-up).

What is trained is an objective (`objectives.py`). The loop reads and writes no files; `resuming.py` does that around
it.
"""

import math
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from abrupt.errors import InputError
from abrupt.models.components import freeze_all_but
from abrupt.training.objectives import MatrixCompletion


@dataclass(frozen=True)
class Schedule:
    """How long and how to train. `steps`, `warmup_steps`, `log_every` and `eval_every` count updates.

    What an update computes does not depend on `steps`: a short run is bit for bit the beginning of a longer one.

    `precision` is that of matrix products. float32 is full precision. tf32 rounds their inputs to 10 bits on a GPU that
    can do so. bfloat16 is autocast, which leaves attention over few positions on a CPU as it is. Weights, Adam's
    moments and the loss are always float32.

    `compile` has TorchInductor compile the forward and backward pass, on a GPU as CUDA graphs. The maths stays the same
    and the rounding differs.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    adam_beta1: float
    adam_beta2: float
    log_every: int
    eval_every: int
    eval_matrices: int
    precision: str
    compile: bool

    @classmethod
    def from_config(cls, pretrain: dict[str, Any], steps: int) -> "Schedule":
        """Take the schedule from the config's `pretrain` section, for a run of `steps`."""
        values = {field.name: pretrain[field.name] for field in fields(cls)}
        return cls(**{**values, "steps": steps})

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of update `step`, counted from 0.

        It rises linearly over `warmup_steps` updates and is constant after them.
        """
        return self.learning_rate * min(1.0, (step + 1) / max(self.warmup_steps, 1))


@contextmanager
def tf32_products(enabled: bool) -> Iterator[None]:
    """Let a GPU use TF32 in float32 matrix products inside this context.

    Outside it, where the data are drawn, products are not rounded.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if enabled else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def check_compiler() -> None:
    """Raise InputError if TorchInductor would find no C++ compiler or no Python headers."""
    compiler, header = os.environ.get("CXX", "g++"), Path(sysconfig.get_path("include")) / "Python.h"
    if not shutil.which(compiler):
        raise InputError(f"config: pretrain.compile: there is no C++ compiler {compiler} here: set it to false")
    if not header.exists():
        raise InputError(f"config: pretrain.compile: there is no {header} to compile with: set it to false")


def compiled(loss: Callable[..., Any], device: str) -> Callable[..., Any]:
    """Return `loss` compiled by TorchInductor, anew for each size of matrix.

    Raises InputError if this machine cannot compile.
    """
    check_compiler()
    torch.compiler.config.recompile_limit = 64  # matrix sizes; beyond its default of 8, PyTorch would not compile them
    return torch.compile(loss, dynamic=False, mode="reduce-overhead" if device == "cuda" else None)


class Observer(Protocol):
    """An observer looks at training after chosen updates, and changes nothing.

    What it has gathered is part of the trainer's state, under its `name`, so that an interrupted run gathers the same.
    """

    name: str

    def is_due(self, step: int) -> bool:
        """Say whether to call `observe` after update number `step`, counted from 1."""

    def observe(self, trainer: "Trainer") -> None:
        """Look at a trainer that has just made an update, and has logged a row if one was due."""

    def state(self) -> dict[str, Tensor]:
        """Return everything gathered so far, as named tensors."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state()` returned."""


class Trainer:
    """A trainer trains the parameters called `trainable`; the others are frozen and get no gradient.

    `seed` and `stream` name the training batches: the batch of update t is (seed, stream, t). Training starts from the
    weights that the model has, which another seed may have drawn.

    `rows` holds what was logged: a row of `columns` every `log_every` updates. Its values come from the training
    forward passes themselves and are averaged over the updates since the row before. Eval columns are nan between
    evaluations.
    """

    def __init__(
        self,
        model: nn.Module,
        trainable: Iterable[str],
        objective: MatrixCompletion,
        schedule: Schedule,
        seed: int,
        stream: str,
        device: str,
        observers: Iterable[Observer] = (),
    ):
        if schedule.precision == "tf32" and device == "cpu":
            raise InputError("config: pretrain.precision: tf32 needs a GPU, and this runs on a CPU: set it to float32")
        trainable = list(trainable)
        freeze_all_but(model, trainable)
        self.model = model.to(device)
        self.objective, self.schedule, self.seed, self.stream, self.device = objective, schedule, seed, stream, device
        self.observers = list(observers)
        self.loss = compiled(objective.loss, device) if schedule.compile else objective.loss
        self.columns = ("step", *objective.columns, *objective.eval_columns)
        self.trained = {name: p for name, p in self.model.named_parameters() if name in trainable}
        self.optimizer = torch.optim.Adam(
            self.trained.values(),
            lr=schedule.learning_rate,
            betas=(schedule.adam_beta1, schedule.adam_beta2),
            fused=True,
        )
        self.eval_batches = objective.eval_batches(schedule.eval_matrices, seed, device)
        self.step = 0
        self.window = torch.zeros(objective.num_sums, dtype=torch.float64, device=device)
        self.rows: list[list[float]] = []

    @property
    def finished(self) -> bool:
        return self.step >= self.schedule.steps

    def advance(self) -> None:
        """Make one update, log a row if one is due, and call the observers that are due.

        Raises InputError with a row if the loss became infinite or nan since the row before. Between rows nothing is
        read from the device, so the CPU never waits for it. The exception is an unbounded law of the factors: then each
        batch is checked, and an entry without a token raises InputError.
        """
        batch = self.objective.sample(self.schedule.batch_size, self.seed, self.stream, self.step, self.device)
        self.optimizer.param_groups[0]["lr"] = self.schedule.learning_rate_at(self.step)
        self.optimizer.zero_grad()
        with tf32_products(self.schedule.precision == "tf32"):
            with torch.autocast(self.device, torch.bfloat16, enabled=self.schedule.precision == "bfloat16"):
                loss, sums = self.loss(self.model, batch)
            loss.backward()
        self.optimizer.step()
        self.step += 1
        self.window += sums
        if self.step % self.schedule.log_every == 0:
            self._log_row()
        for observer in self.observers:
            if observer.is_due(self.step):
                observer.observe(self)

    def check_finite(self) -> None:
        """Raise InputError if a weight, or a loss since the last row, is infinite or nan."""
        if not all(tensor.isfinite().all() for tensor in (self.window, *self.trained.values())):
            raise InputError(
                f"the loss became infinite or nan in the {self.schedule.log_every} steps up to {self.step}: "
                "lower pretrain.learning_rate or raise pretrain.warmup_steps"
            )

    def _log_row(self) -> None:
        self.check_finite()
        evaluation = [math.nan] * len(self.objective.eval_columns)
        if self.step % self.schedule.eval_every == 0:
            evaluation = self.objective.evaluate(self.model, self.eval_batches).tolist()
        self.rows.append([float(self.step), *self.objective.means(self.window).tolist(), *evaluation])
        self.window.zero_()

    def state(self) -> dict[str, Tensor]:
        """Return everything that the rest of the run depends on, as named tensors. Those of the model are views.

        Raises InputError if a weight, or a loss since the last row, is infinite or nan, because nothing could go on
        from that.
        """
        self.check_finite()
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.trained.items():
            moments = self.optimizer.state.get(parameter, {})
            for moment in ("exp_avg", "exp_avg_sq"):
                state[f"{moment}.{name}"] = moments.get(moment, torch.zeros_like(parameter))
        state["step"] = torch.tensor(self.step)
        state["window"] = self.window
        state["rows"] = torch.tensor(self.rows, dtype=torch.float64).reshape(-1, len(self.columns))
        for observer in self.observers:
            state |= {f"observer.{observer.name}.{name}": value for name, value in observer.state().items()}
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state()` returned. The rest of the run is bit-identical on the same machine."""
        self.start_from(state)
        for observer in self.observers:
            prefix = f"observer.{observer.name}."
            observer.load_state(
                {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            )

    def start_from(self, state: dict[str, Tensor]) -> None:
        """Go on from the weights, Adam moments, step and logged rows in the `state()` of another run.

        With another seed or stream this run is a fork: from this step on its batches are those of (seed, stream, step).
        The observers begin anew. Raises KeyError if the other run did not train a parameter that this one trains.
        """
        own = ("model.", "exp_avg", "step", "window", "rows")
        state = {name: value.to(self.device, copy=True) for name, value in state.items() if name.startswith(own)}
        self.model.load_state_dict({name: state[f"model.{name}"] for name in self.model.state_dict()})
        self.step = int(state["step"])
        self.window = state["window"]
        self.rows = state["rows"].tolist()
        for name, parameter in self.trained.items():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(self.step), device=self.device),
                "exp_avg": state[f"exp_avg.{name}"],
                "exp_avg_sq": state[f"exp_avg_sq.{name}"],
            }
