"""What a claim is made of, and how it is judged.

A claim has parts; a part is one quantity with a criterion, measured in the run of every seed. Of one seed it is held,
not held, or not decided: the latter if what the run shows leaves both open. Over seeds a part is not held if any seed
fails, held if at least one seed holds and none fails, and not decided if no seed decides. A claim needs all its parts:
it is not held if any part is not held, held if all are, and not decided otherwise.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from abrupt.scores.drop import Drop

HELD, NOT_HELD, NOT_DECIDED = DECISIONS = ("held", "not held", "not decided")
NOT_AT_THIS_SCALE, NOT_YET = "not tested at this scale", "not tested yet"
FOR_COMPARISON = "for comparison"
LEVEL_TOLERANCE = 0.1


class NotDecided(Exception):
    """Raised by a measure if a seed's run cannot tell; the message says why."""


@dataclass(frozen=True)
class Value:
    """A number that lies between `low` and `high`, which are one if it was measured.

    `note` is shown with it, and says why if it was not measured.
    """

    low: float
    high: float
    note: str = ""

    @property
    def number(self) -> float:
        return self.low if self.low == self.high else math.nan

    def __str__(self) -> str:
        if self.low == self.high:
            known = f"{self.low:.4g}"
        else:
            limits = [f">= {self.low:.4g}"] if self.low > -math.inf else []
            limits += [f"<= {self.high:.4g}"] if self.high < math.inf else []
            known = " and ".join(limits)
        return f"{known} ({self.note})" if known and self.note else known or self.note


def exactly(number: float) -> Value:
    """A measured number; nan decides nothing."""
    return Value(-math.inf, math.inf, "undefined") if math.isnan(number) else Value(float(number), float(number))


def onset(drop: Drop) -> Value:
    """The step of the onset. Without a drop in its steps a run says how late the onset is at least."""
    if drop.found:
        return exactly(drop.onset)
    return Value(drop.onset_at_least, math.inf, no_drop(drop))


def no_drop(drop: Drop) -> str:
    return f"no drop by step {drop.last_step}"


def ratio(numerator: Value, denominator: Value) -> Value:
    """Of two numbers that are not negative and may be known by their limits only."""
    if denominator.high == 0:
        return exactly(math.nan)
    low = 0.0 if denominator.high == math.inf else numerator.low / denominator.high
    high = math.inf if denominator.low == 0 or numerator.high == math.inf else numerator.high / denominator.low
    return Value(low, high, ", ".join(dict.fromkeys(filter(None, (numerator.note, denominator.note)))))


@dataclass(frozen=True)
class Criterion:
    """A number must lie between `least` and `most`, which count as inside unless it is `strict`; `note` explains it."""

    least: float = -math.inf
    most: float = math.inf
    strict: bool = False
    note: str = ""

    def verdict(self, value: Value) -> str:
        """Held if all that the value may be is inside, not held if all of it is outside, else not decided."""
        if self._in_order(self.least, value.low) and self._in_order(value.high, self.most):
            return HELD
        if self._in_order(self.least, value.high) and self._in_order(value.low, self.most):
            return NOT_DECIDED
        return NOT_HELD

    def _in_order(self, first: float, second: float) -> bool:
        return first < second or (first == second and (not self.strict or math.isinf(first)))

    def __str__(self) -> str:
        equal = "" if self.strict else "="
        limits = [f">{equal} {self.least:g}"] if self.least > -math.inf else []
        limits += [f"<{equal} {self.most:g}"] if self.most < math.inf else []
        return " and ".join(limits) + (f" ({self.note})" if self.note else "")


def near_one(tolerance: float = LEVEL_TOLERANCE) -> Criterion:
    """Of the ratio to a level that is computed."""
    return Criterion(1 - tolerance, 1 + tolerance)


@dataclass(frozen=True)
class Part:
    """One quantity of a claim, in `unit`, to be seen in `figure`; `evidence` are the files, below the run's results.

    `measure` takes the run of one seed and gives a number or a `Value`, or raises NotDecided. Without a `criterion`,
    or at another scale than `only_at`, the number is shown and not judged.
    """

    figure: str
    quantity: str
    unit: str
    evidence: str
    measure: Callable[[Any], float | Value] | None
    criterion: Criterion | None = None
    unjudged: str = FOR_COMPARISON
    only_at: str | None = None

    def values(self, runs: dict[int, Any]) -> dict[int, Value]:
        """Seed -> what its run gives; empty if nothing is measured."""
        return {seed: self._value(run) for seed, run in runs.items()} if self.measure else {}

    def _value(self, run: Any) -> Value:
        try:
            value = self.measure(run)
        except NotDecided as reason:
            return Value(-math.inf, math.inf, str(reason))
        return value if isinstance(value, Value) else exactly(value)


@dataclass(frozen=True)
class Claim:
    """A statement, the `source` that makes it, and the parts that are measured."""

    number: int
    statement: str
    source: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Finding:
    """A part of a claim, measured: `values` has one for every seed; `results` is the folder of the evidence."""

    claim: Claim
    part: Part
    values: dict[int, Value]
    scale: str
    results: str

    @property
    def verdicts(self) -> list[str]:
        """One verdict a seed; none if the part is not judged."""
        criterion, only_at = self.part.criterion, self.part.only_at
        if criterion is None or only_at not in (None, self.scale):
            return []
        return [criterion.verdict(value) for value in self.values.values()]

    @property
    def verdict(self) -> str:
        """Over all seeds."""
        if self.part.criterion is None:
            return self.part.unjudged
        if self.part.only_at not in (None, self.scale):
            return NOT_AT_THIS_SCALE
        return verdict_over_seeds(self.verdicts)

    @property
    def median(self) -> float:
        """Over seeds; nan if a seed's number is not known."""
        return float(np.median([value.number for value in self.values.values()])) if self.values else math.nan


def verdict_over_seeds(verdicts: Iterable[str]) -> str:
    """Seeds are repetitions: one that fails is enough to fail, one that does not decide takes nothing away."""
    verdicts = set(verdicts)
    return next((verdict for verdict in (NOT_HELD, HELD) if verdict in verdicts), NOT_DECIDED)


def verdict_over_parts(verdicts: Iterable[str]) -> str:
    """Parts are all needed. Verdicts of parts that are not judged do not count, unless there are no others."""
    verdicts = list(verdicts)
    decisions = [verdict for verdict in verdicts if verdict in DECISIONS]
    if not decisions:
        return verdicts[0]
    return next(verdict for verdict in (NOT_HELD, NOT_DECIDED, HELD) if verdict in decisions)


def counted(verdicts: Iterable[str]) -> str:
    """'2 held, 1 not decided'; verdicts of parts that are not judged are left out."""
    counts = Counter(verdicts)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in DECISIONS if counts[verdict])
