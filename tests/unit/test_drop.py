import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abrupt.scores.drop import Drop, detect_drop, telling_steps

PLATEAU = 2 / 9
STEP = np.arange(100, 50_001, 100)

quick = settings(max_examples=50, deadline=None, database=None, derandomize=True)


def sigmoid_drop(step, middle, width, final=0.02):
    """A plateau, then a sigmoid fall to `final` times the plateau."""
    fallen = (1 + np.tanh((step - middle) / (2 * width))) / 2
    return PLATEAU * (1 - (1 - final) * fallen)


# Curves that fall from the first step on.
SMOOTH = {
    "exponential, fast": PLATEAU * np.exp(-STEP / 1000),
    "exponential, slow": PLATEAU * np.exp(-STEP / 10_000),
    "straight line": PLATEAU * (1 - 0.98 * STEP / 50_000),
    "cosine ramp": PLATEAU * (0.01 + 0.99 * (1 + np.cos(np.pi * STEP / 50_000)) / 2),
    "power law": PLATEAU * (1 + STEP / 200) ** -1.0,
    "slow power law": PLATEAU * (1 + STEP / 500) ** -0.5,
}


def noisy(curve, seed=0, deviation=0.02):
    return curve * (1 + deviation * np.random.default_rng(seed).standard_normal(len(curve)))


@pytest.mark.parametrize(("middle", "width"), [(15_000, 150), (15_000, 600), (30_000, 1000), (5000, 100)])
def test_sigmoid_drop_is_abrupt_and_where_it_was_put(middle, width):
    final = 0.02
    drop = detect_drop(STEP, sigmoid_drop(STEP, middle, width, final), PLATEAU)
    fall_at_onset = 0.1 / (1 - final)
    onset = middle + width * math.log(fall_at_onset / (1 - fall_at_onset))
    completion = middle + width * math.log(0.9 / 0.1)
    assert drop.found and drop.abrupt
    # The curve is sampled every 100 steps.
    assert drop.onset == pytest.approx(onset, abs=100)
    assert drop.midpoint == pytest.approx(middle, abs=100)
    assert drop.completion == pytest.approx(completion, abs=100)
    assert drop.final == pytest.approx(final * PLATEAU, rel=1e-3)


@pytest.mark.parametrize("name", SMOOTH)
def test_curve_that_falls_from_the_start_is_not_abrupt(name):
    assert not detect_drop(STEP, SMOOTH[name], PLATEAU).abrupt


@pytest.mark.parametrize(
    ("name", "first_fall"), [("exponential, slow", 5.6), ("straight line", 4.0), ("cosine ramp", 1.4)]
)
def test_first_fall_of_smooth_curves_is_as_documented(name, first_fall):
    # A plateau of few rows is known to a row only.
    assert detect_drop(STEP, SMOOTH[name], PLATEAU).first_fall == pytest.approx(first_fall, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", SMOOTH)
def test_noise_does_not_make_a_smooth_curve_abrupt(name, seed):
    assert not detect_drop(STEP, noisy(SMOOTH[name], seed), PLATEAU).abrupt


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_hide_an_abrupt_drop(seed):
    drop = detect_drop(STEP, noisy(sigmoid_drop(STEP, 15_000, 400), seed), PLATEAU)
    assert drop.abrupt and drop.onset == pytest.approx(14_130, abs=300)


@pytest.mark.parametrize("rows", [1, 3, 30])
def test_loss_spike_does_not_make_a_smooth_decay_abrupt(rows):
    spiked = SMOOTH["exponential, slow"].copy()
    spiked[300 : 300 + rows] = PLATEAU
    assert detect_drop(STEP, spiked, PLATEAU) == detect_drop(STEP, SMOOTH["exponential, slow"], PLATEAU)


def test_loss_spike_after_an_abrupt_drop_does_not_move_its_onset():
    spiked = sigmoid_drop(STEP, 15_000, 200)
    plain = detect_drop(STEP, spiked, PLATEAU)
    spiked[170:180] = PLATEAU
    assert detect_drop(STEP, spiked, PLATEAU).onset == plain.onset


def test_short_dip_on_the_plateau_does_not_end_it():
    dipped = sigmoid_drop(STEP, 15_000, 200)
    plain = detect_drop(STEP, dipped, PLATEAU)
    dipped[50:60] = 0.3 * PLATEAU
    assert detect_drop(STEP, dipped, PLATEAU) == plain


def test_spike_at_the_last_step_is_survived():
    curve = sigmoid_drop(STEP, 15_000, 200)
    curve[-1] = PLATEAU
    assert detect_drop(STEP, curve, PLATEAU).last_step == 50_000


@pytest.mark.parametrize("level", [1.0, 1.05, 0.95, 0.6])
def test_flat_curve_is_censored_at_its_last_step(level):
    drop = detect_drop(STEP, np.full(len(STEP), level * PLATEAU), PLATEAU)
    assert (drop.onset, drop.midpoint, drop.completion) == (None, None, None)
    assert not drop.found and not drop.abrupt
    assert drop.last_step == 50_000


def test_curve_cut_before_its_drop_is_censored():
    before = STEP <= 14_000
    drop = detect_drop(STEP[before], sigmoid_drop(STEP[before], 15_000, 100), PLATEAU)
    assert not drop.found and drop.last_step == drop.onset_at_least == 14_000


def test_curve_cut_within_its_drop_has_an_onset_that_is_no_later_than_that_of_the_whole():
    curve = sigmoid_drop(STEP, 15_000, 400)
    within = STEP <= 15_000
    drop = detect_drop(STEP[within], curve[within], PLATEAU)
    assert not drop.found and drop.onset_at_least == detect_drop(STEP, curve, PLATEAU).onset < 15_000


def test_shallow_fall_is_no_drop():
    assert not detect_drop(STEP, sigmoid_drop(STEP, 15_000, 100, final=0.55), PLATEAU).found


def test_curve_below_the_plateau_from_the_start_has_its_onset_at_zero_and_is_not_abrupt():
    drop = detect_drop(STEP, 0.8 * PLATEAU * np.exp(-STEP / 300), PLATEAU)
    assert drop.found and drop.onset == 0 and not drop.abrupt


def test_fall_between_the_first_two_logged_steps_has_no_plateau():
    curve = np.where(STEP == 100, PLATEAU, 0.01 * PLATEAU)
    drop = detect_drop(STEP, curve, PLATEAU)
    assert drop.found and drop.onset <= 100 and not drop.abrupt


def test_curve_of_one_step_is_judged():
    assert not detect_drop([100], [PLATEAU], PLATEAU).found
    assert detect_drop([100], [0.0], PLATEAU).found


def test_empty_curve_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        detect_drop([], [], PLATEAU)


@pytest.mark.parametrize("count", [5, 10])
def test_nan_at_the_end_gives_no_drop(count):
    curve = sigmoid_drop(STEP, 15_000, 200)
    curve[-count:] = math.nan
    assert not detect_drop(STEP, curve, PLATEAU).found


def test_curve_of_nan_gives_no_drop():
    assert not detect_drop(STEP, np.full(len(STEP), math.nan), PLATEAU).found


def test_nan_on_the_plateau_does_not_move_the_drop():
    curve = sigmoid_drop(STEP, 15_000, 200)
    whole = detect_drop(STEP, curve, PLATEAU)
    curve[10] = math.nan
    assert detect_drop(STEP, curve, PLATEAU) == whole


curves = st.builds(
    lambda middle, width, final: sigmoid_drop(STEP, middle, width, final),
    st.integers(2000, 60_000),
    st.integers(50, 8000),
    st.floats(0.0, 0.7),
)


@quick
@given(curve=curves, factor=st.integers(2, 1000))
def test_stretching_the_step_axis_stretches_the_drop(curve, factor):
    plain, stretched = detect_drop(STEP, curve, PLATEAU), detect_drop(STEP * factor, curve, PLATEAU)
    assert stretched.found == plain.found
    if plain.found:
        scaled = (plain.onset * factor, plain.midpoint * factor, plain.completion * factor)
        assert (stretched.onset, stretched.midpoint, stretched.completion) == scaled
        assert stretched.first_fall == pytest.approx(plain.first_fall)
        assert [rest.start for rest in stretched.rests] == [rest.start * factor for rest in plain.rests]


@quick
@given(curve=curves, exponent=st.integers(-20, 20))
def test_the_unit_of_the_loss_does_not_matter(curve, exponent):
    # Powers of two scale without rounding.
    plain, scaled = detect_drop(STEP, curve, PLATEAU), detect_drop(STEP, curve * 2.0**exponent, PLATEAU * 2.0**exponent)
    steps = (plain.onset, plain.midpoint, plain.completion)
    assert (scaled.onset, scaled.midpoint, scaled.completion) == steps


@quick
@given(curve=curves)
def test_onset_midpoint_and_completion_come_in_this_order(curve):
    drop = detect_drop(STEP, curve, PLATEAU)
    if drop.found:
        assert drop.onset < drop.midpoint <= min(drop.completion, drop.half)
        assert max(drop.completion, drop.half) <= drop.last_step


def falls(*levels_and_steps, width=150):
    """From the plateau to each level, a share of it, in turn, by a sigmoid fall around each step."""
    curve, level = np.ones(len(STEP)), 1.0
    for lower, middle in levels_and_steps:
        curve -= (level - lower) * (1 + np.tanh((STEP - middle) / (2 * width))) / 2
        level = lower
    return PLATEAU * curve


def ended_rests(curve):
    return [rest for rest in detect_drop(STEP, curve, PLATEAU).rests if rest.ended]


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_drop_in_two_stages_is_abrupt_and_has_a_rest_between_them(seed):
    curve = falls((0.33, 10_000), (0.01, 16_000))
    drop = detect_drop(STEP, curve if seed is None else noisy(curve, seed), PLATEAU)
    rest, end = drop.rests
    assert drop.abrupt and drop.first_fall == pytest.approx(0.05, abs=0.02)
    assert drop.completion > 16_000, "the second stage is part of the completion"
    assert rest.ended and rest.level / PLATEAU == pytest.approx(0.33, rel=0.05)
    assert rest.start == pytest.approx(10_500, abs=400) and rest.end == pytest.approx(15_700, abs=400)
    assert not end.ended and end.level / PLATEAU == pytest.approx(0.01, rel=0.05)


def test_every_step_of_a_staircase_is_a_rest():
    rests = ended_rests(falls((0.6, 10_000), (0.3, 14_000), (0.1, 24_000), (0.01, 45_000)))
    assert [round(rest.level / PLATEAU, 2) for rest in rests] == [0.6, 0.3, 0.1]


def test_rest_that_is_shorter_than_the_fall_before_it_is_none():
    assert ended_rests(falls((0.33, 10_000), (0.01, 11_500), width=300)) == []


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("name", SMOOTH)
def test_curve_that_falls_all_the_time_has_no_rest(name, seed):
    assert ended_rests(SMOOTH[name] if seed is None else noisy(SMOOTH[name], seed)) == []


@pytest.mark.parametrize(("middle", "width"), [(15_000, 150), (30_000, 1000)])
def test_drop_in_one_go_has_no_rest_but_the_level_at_its_end(middle, width):
    (rest,) = detect_drop(STEP, sigmoid_drop(STEP, middle, width), PLATEAU).rests
    assert not rest.ended and rest.end == 50_000 and rest.level / PLATEAU == pytest.approx(0.02, rel=0.1)


def test_replicated_curve_of_the_paper_is_abrupt():
    # Loss over all entries of an independent replication, read off its plot, with 14 of 49 entries masked. Observed
    # entries are taken to be copied, so that the loss is 14/49 of the masked-entry MSE; between the points the curve is
    # taken to be straight, and it leaves the plateau at 14 300.
    steps = [500, 14_000, 14_300, 14_400, 15_000, 16_000, 17_000, 20_000, 25_000, 40_000, 50_000]
    loss = [0.0635, 0.063, 0.060, 0.050, 0.045, 0.025, 0.011, 0.0065, 0.0042, 0.0027, 0.0025]
    drop = detect_drop(STEP, np.interp(STEP, steps, loss) * 49 / 14, PLATEAU)
    assert drop.onset == 14_300 and drop.abrupt
    assert drop.first_fall == pytest.approx(0.1, abs=0.01)
    assert drop.completion == pytest.approx(18_600, abs=200)
    # Its shoulder from 14 400 to 15 000 lies above two thirds of the plateau: it is part of the first fall.
    assert drop.rests == ()


DROP = Drop(last_step=50_000, final=0.002, onset=14_300, midpoint=15_200, completion=18_000)


def test_telling_steps_are_before_in_the_middle_and_after():
    steps = [50_000, 1000, 4000, 14_000, 15_000, 16_000]
    assert telling_steps(DROP, steps) == {"before the drop": 4000, "mid-drop": 15_000, "last": 50_000}


def test_telling_steps_without_a_drop_are_the_first_and_the_last():
    assert telling_steps(Drop(50_000, 0.2), [4000, 1000, 50_000]) == {"first": 1000, "last": 50_000}


def test_telling_steps_take_the_first_step_if_the_drop_came_before_all():
    steps = telling_steps(DROP, [20_000, 30_000, 50_000])
    assert steps == {"before the drop": 20_000, "mid-drop": 20_000, "last": 50_000}


def test_telling_steps_do_not_reorder_the_list_they_were_given():
    steps = [50_000, 1000, 4000]
    telling_steps(DROP, steps)
    assert steps == [50_000, 1000, 4000]
