"""Checkpoints around the drop, which nobody knows beforehand: a rule keeps them while training goes on.

The rule looks at the logged masked-entry MSE alone, as a running median over five rows, like the drop's
definition (`scores/drop.py`): the onset so far is the last row at 90 % of the plateau or more. A row is
judged once two more are logged.

    on the plateau   every 250 steps; the last six stay
    in the fall      every 100 steps from the onset on, until 24 are kept in all

If a fall turns out to be none, because the loss returns to the plateau, its checkpoints make room again. A curve
without a plateau falls from step 0 on.
"""

from bisect import bisect_right
from collections.abc import Iterable
from statistics import median

from torch import Tensor

from abrupt.training.loop import Trainer

FILE_NAME = "around_drop.safetensors"

PLATEAU_FRACTION = 0.9
ROWS_EACH_SIDE = 2  # of the running median
PLATEAU_EVERY, PLATEAU_KEPT = 250, 6
FALL_EVERY = 100
MOST = 24


def onset_so_far(steps: list[int], mse_masked: list[float], plateau: float) -> tuple[int, bool]:
    """The last logged step on the plateau (0 if there is none), and whether the last row that can be judged is on it.

    `plateau` is an MSE. Before any row can be judged, training counts as on the plateau.
    """
    last = len(steps) - 1 - ROWS_EACH_SIDE
    for row in range(last, -1, -1):
        window = mse_masked[max(0, row - ROWS_EACH_SIDE) : row + ROWS_EACH_SIDE + 1]
        if median(window) >= PLATEAU_FRACTION * plateau:
            return steps[row], row == last
    return 0, last < 0


def steps_to_keep(candidates: Iterable[int], onset: int, on_plateau: bool) -> list[int]:
    """Which of the checkpoints at the steps `candidates`, in increasing order, to keep."""
    candidates = list(candidates)
    before = [step for step in candidates if step <= onset and step % PLATEAU_EVERY == 0][-PLATEAU_KEPT:]
    after = [step for step in candidates if step > onset]
    if on_plateau:  # whether the steps after the last judged row are on the plateau is not known yet
        return [*before, *after][-MOST:]
    return [*before, *(step for step in after if step % FALL_EVERY == 0)][:MOST]


def is_due(step: int) -> bool:
    """Whether the weights after `step` updates may be kept."""
    return step % FALL_EVERY == 0 or step % PLATEAU_EVERY == 0


def steps_kept_after(last_step: int, steps: list[int], mse_masked: list[float], plateau: float) -> list[int]:
    """The steps that a run of `last_step` updates keeps, from its logged rows or those of a longer run."""
    kept: list[int] = []
    for step in filter(is_due, range(1, last_step + 1)):
        logged = bisect_right(steps, step)
        kept = steps_to_keep([*kept, step], *onset_so_far(steps[:logged], mse_masked[:logged], plateau))
    return kept


def weights_by_step(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Step -> name -> parameter, in increasing order of steps, of tensors named step<k>/<parameter>."""
    weights: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        step, _, name = key.removeprefix("step").partition("/")
        weights.setdefault(int(step), {})[name] = value
    return dict(sorted(weights.items()))


class DropCheckpoints:
    """Keeps weights by the rule above, in main memory: an observer of a trainer that logs `mse_masked`.

    `plateau` is the masked-entry MSE of predicting 0, a task's `entry_variance`.
    """

    name = "around_drop"

    def __init__(self, plateau: float):
        self.plateau = plateau
        self.weights: dict[int, dict[str, Tensor]] = {}

    def is_due(self, step: int) -> bool:
        """Every 100 and every 250 steps."""
        return is_due(step)

    def observe(self, trainer: Trainer) -> None:
        """Keep a copy of the model's weights if the rule says so, and drop what it no longer keeps."""
        column = trainer.columns.index("mse_masked")
        logged = [int(row[0]) for row in trainer.rows], [row[column] for row in trainer.rows]
        kept = steps_to_keep([*self.weights, trainer.step], *onset_so_far(*logged, self.plateau))
        if trainer.step in kept:
            parameters = trainer.model.named_parameters()
            self.weights[trainer.step] = {name: value.detach().to("cpu", copy=True) for name, value in parameters}
        self.weights = {step: self.weights[step] for step in kept}

    def state(self) -> dict[str, Tensor]:
        """Every kept parameter as step<k>/<parameter>: what the file `FILE_NAME` holds, and what to go on from."""
        return {f"step{step}/{name}": value for step, own in self.weights.items() for name, value in own.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state()` gave."""
        self.weights = weights_by_step(state)
