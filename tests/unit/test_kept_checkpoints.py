"""Which checkpoints the rule keeps on curves of a known shape, and that keeping them changes nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_run import TASK, tiny_trainer
from torch import nn

from abrupt.scores.drop import detect_drop
from abrupt.training.kept_checkpoints import DropCheckpoints, onset_so_far, steps_kept_after, steps_to_keep

PLATEAU = 1 / 9
LOG_EVERY = 50


def level_falling(step):
    """A plateau to step 9700 and a fall over 600 steps."""
    return PLATEAU * np.interp(step, [9700, 10300], [1, 0.02])


def keep(level, first, last, checkpoints):
    """Show `checkpoints` the updates first + 1 to last of a run whose masked MSE is level(step). Its one weight is
    the step."""
    trainer = SimpleNamespace(columns=("step", "mse_all", "mse_masked"), model=nn.Linear(1, 1, bias=False))
    for step in range(first + 1, last + 1):
        if checkpoints.is_due(step):
            logged = range(LOG_EVERY, step + 1, LOG_EVERY)
            trainer.step, trainer.rows = step, [[float(at), 0.0, float(level(at))] for at in logged]
            nn.init.constant_(trainer.model.weight, step)
            checkpoints.observe(trainer)
    return checkpoints


def steps_kept(level, last):
    """By the rows of a run that went on for longer."""
    steps = list(range(LOG_EVERY, last + 1001, LOG_EVERY))
    return steps_kept_after(last, steps, [float(level(step)) for step in steps], PLATEAU)


def test_around_a_drop_six_are_kept_from_before_and_every_100_steps_through_the_fall():
    steps = list(range(LOG_EVERY, 15001, LOG_EVERY))
    onset = detect_drop(np.array(steps), level_falling(steps), PLATEAU).onset
    assert onset_so_far(steps, level_falling(steps), PLATEAU) == (onset, False)
    assert onset == 9750
    assert steps_kept(level_falling, 15000) == [*range(8500, 9751, 250), *range(9800, 11501, 100)]


def test_without_a_drop_the_last_ones_are_kept():
    assert steps_kept(lambda step: PLATEAU, 4000) == list(range(2500, 4001, 250))


def test_without_a_plateau_those_from_the_beginning_are_kept():
    assert steps_kept(lambda step: 0.5 * PLATEAU, 5000) == list(range(100, 2401, 100))


def test_a_fall_that_returns_to_the_plateau_leaves_nothing_behind():
    def dipping(step):
        return level_falling(step) * (0.5 if 5000 < step <= 5600 else 1)

    assert steps_kept(dipping, 13000) == steps_kept(level_falling, 13000)


def test_a_spike_is_no_return_to_the_plateau():
    def spiking(step):
        return PLATEAU if step == 10600 else level_falling(step)

    assert steps_kept(spiking, 13000) == steps_kept(level_falling, 13000)


def test_no_more_than_the_most_are_kept_where_rows_are_logged_rarely():
    assert steps_to_keep(range(100, 10001, 100), onset=4000, on_plateau=True) == list(range(7700, 10001, 100))


@pytest.mark.parametrize("stop", [1, 9749, 9850, 10010, 12500])
def test_an_interrupted_run_keeps_the_same_ones(stop):
    whole, resumed = (DropCheckpoints(PLATEAU) for _ in range(2))
    state = keep(level_falling, 0, stop, DropCheckpoints(PLATEAU)).state()
    resumed.load_state(dict(sorted(state.items())))  # a file has them in the order of their names
    keep(level_falling, 0, 13000, whole)
    keep(level_falling, stop, 13000, resumed)
    assert list(whole.weights) == list(resumed.weights)
    assert all(torch.equal(value, resumed.state()[name]) for name, value in whole.state().items())


@pytest.mark.parametrize("last", [2, 4010, 9850, 13000])
def test_the_logged_rows_alone_say_what_a_run_keeps(last):
    assert list(keep(level_falling, 0, last, DropCheckpoints(PLATEAU)).weights) == steps_kept(level_falling, last)


def test_what_is_kept_are_the_weights_of_that_step_and_no_view_of_them():
    checkpoints = keep(level_falling, 0, 11000, DropCheckpoints(PLATEAU))
    assert [weights["weight"].item() for weights in checkpoints.weights.values()] == list(checkpoints.weights)


def kept_by_a_tiny_run(stop_at=()):
    """A tiny trainer at step 250 that keeps checkpoints, stopped and resumed at some steps."""
    trainer = None
    for step in (*stop_at, 250):
        earlier, trainer = trainer, tiny_trainer()
        trainer.observers.append(DropCheckpoints(TASK.entry_variance))
        if earlier:
            trainer.load_state({name: value.clone() for name, value in earlier.state().items()})
        while trainer.step < step:
            trainer.advance()
    return trainer


def test_keeping_them_changes_no_bit_of_training_and_survives_a_stop():
    plain, whole, resumed = tiny_trainer(), kept_by_a_tiny_run(), kept_by_a_tiny_run(stop_at=[150])
    while plain.step < 250:
        plain.advance()
    state, other = whole.state(), resumed.state()
    assert state.keys() == other.keys() and "observer.around_drop.step250/read_out.bias" in state
    assert all(torch.equal(value.nan_to_num(), other[name].nan_to_num()) for name, value in state.items())
    assert all(torch.equal(value.nan_to_num(), state[name].nan_to_num()) for name, value in plain.state().items())
