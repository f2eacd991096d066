"""When the loss drops, whether it drops abruptly, and in which stages (paper, Figures 1, 2 and 8).

All functions look at the masked-entry MSE against the step, as a running median over five logged points, so that a
single spike decides nothing. A row lies on the plateau if the MSE there is at least 90 % of the plateau's level.

    plateau      E[x^2], what predicting 0 costs; rank / 9 for the paper's uniform factors
    final        the median of the last tenth of the curve
    onset        the end of the plateau: the step that best separates rows on the plateau (before) from the others
                 (after). So most rows before it lie on the plateau, and a spike back to the level moves it only if
                 the spike lasts longer than the fall before it.
    half         the first step after the onset at which the curve is at half the plateau's level
    midpoint     the first step after the onset at which half of the way from plateau to final is done
    completion   the same for 90 % of the way
    rests        where the curve stays near a level on its way down, see `find_rests`

A curve has a drop if final is at most half the plateau's level and there is a completion. The first fall goes from
onset to half. The drop is abrupt if its first fall takes at most half as long as the plateau before it. That is the
only measure that claim 1 requires, for three reasons:

- A fall in one go takes as long from 90 to 50 % as from 50 to 10 %. So such a drop is abrupt if all of it takes no
  longer than its plateau, whatever the time scale.
- Completion depends on what comes after the first fall and on the length of the run: a curve that falls suddenly to
  a third of the plateau and rests there is sudden, and then completes in stages. Its completion and its rests
  describe these stages; they decide nothing.
- It leaves room. First fall / plateau of curves that nobody would call abrupt, at any time scale: 5.6 for an
  exponential decay, 4.0 for a straight line, 1.4 for a cosine ramp. It is 0.1 for the replicated curve of the paper,
  and 0.44 and 0.36 for seeds 0 and 2 of the smoke scale, which end near 40 % of the plateau (these were seen before).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

PLATEAU_FRACTION = 0.9
LARGEST_FINAL_FRACTION = 0.5
HALF = 0.5
COMPLETED_FRACTION = 0.9
TAIL_FRACTION = 0.1
MEDIAN_POINTS = 5
ABRUPT_FIRST_FALL = 0.5  # times the plateau's length
PLATEAU_SHARE = 0.75
REST_BELOW = 2 / 3  # of the plateau's level
REST_BAND = 1.2  # largest over smallest MSE
REST_TIMES = 2  # step of the end over step of the start, both counted from the onset


@dataclass(frozen=True)
class Rest:
    """The curve stays near `level` (a masked-entry MSE) from step `start` to step `end`.

    If the run ended within it, `ended` is False: a longer run would tell how long it lasts, and whether it is the
    level at which the curve ends.
    """

    start: int
    end: int
    level: float
    ended: bool


@dataclass(frozen=True)
class Drop:
    """Steps of `onset`, `half`, `midpoint` and `completion`, an MSE `final`, and rests in order.

    A curve without a drop is censored: these steps are None, `last_step` says how long it was watched, and a drop that
    is still to come has its onset at step `onset_at_least` or later.
    """

    last_step: int
    final: float
    onset: int | None = None
    midpoint: int | None = None
    completion: int | None = None
    half: int | None = None
    rests: tuple[Rest, ...] = ()
    onset_at_least: int = 0

    @property
    def found(self) -> bool:
        return self.onset is not None

    @property
    def plateau_end(self) -> int:
        """The onset; without a drop, the last step that was seen on the plateau."""
        return self.onset_at_least if self.onset is None else self.onset

    def is_before(self, step: int) -> bool:
        """Whether `step` is well before the end of the plateau: within its first three quarters. At the end itself the
        fall has begun, by up to a tenth of the level."""
        return step <= PLATEAU_SHARE * self.plateau_end

    @property
    def first_fall(self) -> float:
        """The length of the first fall (onset to half) over that of the plateau; nan without a drop, infinite without
        a plateau."""
        if self.onset is None or self.half is None:
            return np.nan
        return (self.half - self.onset) / self.onset if self.onset else np.inf

    @property
    def abrupt(self) -> bool:
        return self.first_fall <= ABRUPT_FIRST_FALL


def detect_drop(step: np.ndarray, mse_masked: np.ndarray, plateau: float) -> Drop:
    """The drop of one curve; `step` (n,) increasing, `mse_masked` (n,) in the same order.

    Raises ValueError for an empty curve.
    """
    if len(step) == 0:
        raise ValueError("the curve is empty")
    step = np.asarray(step)
    smooth = pd.Series(np.asarray(mse_masked, dtype=float)).rolling(MEDIAN_POINTS, center=True, min_periods=1)
    mse_masked = smooth.median().to_numpy()
    tail = max(1, round(len(step) * TAIL_FRACTION))
    final = float(np.median(mse_masked[-tail:]))
    last_step = int(step[-1])
    # Rows on the plateau count for a split after them, others against it.
    gain = np.cumsum(np.where(mse_masked >= PLATEAU_FRACTION * plateau, 1, -1))
    onset = int(step[gain.argmax()]) if gain.max() > 0 else 0

    def first_at(level: float) -> int | None:
        below = step[(step > onset) & (mse_masked <= level)]
        return int(below[0]) if len(below) else None

    completion = first_at(plateau - COMPLETED_FRACTION * (plateau - final))
    if not final <= LARGEST_FINAL_FRACTION * plateau or completion is None:
        return Drop(last_step, final, onset_at_least=onset)
    return Drop(
        last_step,
        final,
        onset,
        midpoint=first_at(plateau - HALF * (plateau - final)),
        completion=completion,
        half=first_at(HALF * plateau),
        rests=find_rests(step, mse_masked, onset, REST_BELOW * plateau),
    )


def find_rests(step: np.ndarray, mse_masked: np.ndarray, onset: int, below: float) -> tuple[Rest, ...]:
    """The rests of a smoothed curve, in order: stretches in which it stays near a level on its way down.

    A rest has at least five rows and starts after the curve has first fallen to `below`. Within it the largest MSE is
    at most 1.2 times the smallest, and it lasts at least as long as the fall before it, from the onset on. It is found
    by the curve alone, whatever causes it, at any time scale. Of stretches that overlap, the one that lasts longest in
    proportion counts.
    """
    reached = np.flatnonzero((step > onset) & (mse_masked <= below))
    if not len(reached):
        return ()
    first = reached[0]
    since, values = (step[first:] - onset).astype(float), mse_masked[first:]
    stretches = []
    for start in range(len(values)):
        high, low = np.maximum.accumulate(values[start:]), np.minimum.accumulate(values[start:])
        outside = np.flatnonzero(~(high <= REST_BAND * low))
        end = start + (outside[0] if len(outside) else len(high)) - 1
        if end - start + 1 >= MEDIAN_POINTS and since[end] >= REST_TIMES * since[start]:
            stretches.append((since[end] / since[start], start, end))
    rests: list[tuple[int, int]] = []
    for _, start, end in sorted(stretches, reverse=True):
        if all(end < other_start or start > other_end for other_start, other_end in rests):
            rests.append((start, end))
    return tuple(
        Rest(
            int(step[first + start]),
            int(step[first + end]),
            float(np.median(values[start : end + 1])),
            end < len(values) - 1,
        )
        for start, end in sorted(rests)
    )


def find_copying(curve: pd.DataFrame) -> Drop:
    """The drop of a decoder's cross-entropy at observed entries, from the entropy of the marginal law (Figure 11).

    That entropy is what a decoder has that predicts every value by its frequency alone. It is an upper level: what
    earlier entries of X tell, without copying, takes the curve below it before the drop, so the onset is early rather
    than late, and the first fall long rather than short.
    `curve` has one row a logged step: step, cross_entropy_observed and marginal_entropy (nats).
    """
    return detect_drop(
        curve["step"].to_numpy(), curve["cross_entropy_observed"].to_numpy(), curve["marginal_entropy"].max()
    )


def telling_steps(drop: Drop, steps: list[int]) -> dict[str, int]:
    """Which of the extracted `steps` to show: the last one well before the drop, the one nearest to the
    middle of the drop, and the last. Without a drop: the first and the last."""
    steps = sorted(steps)
    if not drop.found:
        return {"first": steps[0], "last": steps[-1]}
    before = [step for step in steps if drop.is_before(step)]
    return {
        "before the drop": before[-1] if before else steps[0],
        "mid-drop": min(steps, key=lambda step: abs(step - drop.midpoint)),
        "last": steps[-1],
    }
