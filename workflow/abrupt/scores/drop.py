"""When the loss drops, and whether it drops abruptly (paper, Figures 1, 2 and 8).

All functions look at the masked-entry MSE against the step, as a running median over five logged points,
so that a single spike decides nothing. With that,

    plateau      E[x^2], what predicting 0 costs; rank / 9 for the paper's uniform factors
    final        the median of the last tenth of the curve
    onset        the last step at which the curve is at 90 % of the plateau or more
    completion   the first step at which 90 % of the way from plateau to final is done

A curve has a drop if final is at most half the plateau and there is a completion. The drop is abrupt if
it takes no longer than the plateau before it did:
sharpness = onset / (completion - onset) >= 1. An exponential decay has 0.05, a straight line 0.12, a
cosine ramp 0.35, whatever their time scale.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

PLATEAU_FRACTION = 0.9
LARGEST_FINAL_FRACTION = 0.5
COMPLETED_FRACTION = 0.9
TAIL_FRACTION = 0.1
MEDIAN_POINTS = 5
ABRUPT_SHARPNESS = 1.0
PLATEAU_SHARE = 0.75


@dataclass(frozen=True)
class Drop:
    """Steps of `onset`, `midpoint` (half of the fall done) and `completion`; `final` is an MSE.

    A curve without a drop is censored: the three steps are None and `last_step` says how long it was watched.
    """

    last_step: int
    final: float
    onset: int | None = None
    midpoint: int | None = None
    completion: int | None = None

    @property
    def found(self) -> bool:
        return self.onset is not None

    def is_before(self, step: int) -> bool:
        """Whether `step` is well before the drop: within three quarters of the plateau. At the onset itself the fall
        has begun, by up to a tenth of it. True of every step if there is no drop."""
        return self.onset is None or step <= PLATEAU_SHARE * self.onset

    @property
    def sharpness(self) -> float:
        """onset / (completion - onset), dimensionless; 0 without a drop."""
        if self.onset is None or self.completion is None:
            return 0.0
        return self.onset / max(self.completion - self.onset, 1)

    @property
    def abrupt(self) -> bool:
        return self.sharpness >= ABRUPT_SHARPNESS


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
    on_plateau = step[mse_masked >= PLATEAU_FRACTION * plateau]
    onset = int(on_plateau[-1]) if len(on_plateau) else 0

    def first_below(fraction: float) -> int | None:
        level = plateau - fraction * (plateau - final)
        below = step[(step > onset) & (mse_masked <= level)]
        return int(below[0]) if len(below) else None

    completion = first_below(COMPLETED_FRACTION)
    if not final <= LARGEST_FINAL_FRACTION * plateau or completion is None:
        return Drop(last_step, final)
    return Drop(last_step, final, onset, first_below(0.5), completion)


def find_copying(curve: pd.DataFrame) -> Drop:
    """The drop of a decoder's cross-entropy at observed entries, from the entropy of the marginal law (Figure 11).

    That entropy is what a decoder has that predicts every value by its frequency alone. It is an upper level: what
    earlier entries of X tell, without copying, takes the curve below it before the drop, so the onset is early rather
    than late, and the sharpness low rather than high.
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
