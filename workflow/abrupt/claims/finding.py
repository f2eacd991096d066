"""What a claim is made of: measured quantities of every seed, each with a criterion."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from abrupt.scores.drop import PLATEAU_SHARE, Drop, detect_drop
from abrupt.task import Task, rows_of_task

HELD, NOT_HELD = "held", "not held"
NOT_AT_THIS_SCALE, NOT_YET = "not tested at this scale", "not tested yet"
TOO_SHORT, FOR_COMPARISON = "run too short to tell", "for comparison"
IN_OWN_RUNS = "tested by `snakemake paper_figures`"
LEVEL_TOLERANCE = 0.1  # relative deviation from an analytic level


@dataclass(frozen=True)
class Finding:
    """One measured quantity of a claim, to be seen in `figure`. `values` has one number a seed; nan is one
    that is `missing`, which never holds. Without `holds` it is `untested`."""

    claim: int
    figure: str
    quantity: str
    unit: str
    criterion: str
    evidence: str
    values: dict[int, float] = field(default_factory=dict)
    holds: Callable[[float], bool] | None = None
    missing: str = "undefined"
    untested: str = NOT_AT_THIS_SCALE

    @property
    def verdict(self) -> str:
        """Held if the criterion holds for every seed; nan never holds."""
        if self.holds is None:
            return self.untested
        held = [self.holds(value) for value in self.values.values()]
        return HELD if held and all(held) else NOT_HELD

    @property
    def measured(self) -> float:
        """The median over seeds, nan if any seed has none."""
        return float(np.median(list(self.values.values()))) if self.values else math.nan


class SeedRun:
    """One seed's tables, and what several claims need from them.

    `task` is the config's section, `training` and each of `components` as in training.csv, `head_scores`, `completion`,
    `token_intervention` and `baselines` as their CSVs, all of this seed alone.
    """

    def __init__(
        self,
        task: Task,
        training: pd.DataFrame,
        components: dict[str, pd.DataFrame],
        **tables: pd.DataFrame,
    ):
        self.task = task
        self.plateau = task.entry_variance
        self.plateau_all = task.mask_probability * self.plateau
        self.training, self.tables = training, tables
        self.drop = self._drop(training)
        self.component_drops = {name: self._drop(table) for name, table in components.items()}

    def _drop(self, training: pd.DataFrame) -> Drop:
        return detect_drop(training["step"], training["mse_masked"], self.plateau)

    @cached_property
    def completion(self) -> pd.DataFrame:
        """Errors of the final model on matrices of the task itself, with the matrix as index."""
        return rows_of_task(self.tables["completion"], self.task).set_index("matrix")

    @cached_property
    def nuclear_norm(self) -> pd.DataFrame:
        """Errors of nuclear-norm minimisation on the same matrices, with the matrix as index."""
        rows = rows_of_task(self.tables["baselines"], self.task)
        return rows[rows["method"] == "nuclear_norm"].set_index("matrix")

    @property
    def onset(self) -> float:
        return onset(self.drop)

    @property
    def plateau_end(self) -> int:
        """The onset, or the last step if there was no drop."""
        return self.drop.onset if self.drop.found else self.drop.last_step

    @cached_property
    def late_plateau(self) -> pd.Series:
        """Mean training metrics late on the plateau and well before its end, which is defined by the level itself."""
        step = self.training["step"]
        last = max(PLATEAU_SHARE * self.plateau_end, step.iloc[0])
        return self.training[(step >= self.plateau_end / 2) & (step <= last)].mean()

    def at_plateau(self, name: str) -> pd.DataFrame:
        """Rows of a table at its last step well before the drop (its first step, if all are later)."""
        table = self.tables[name]
        steps = table["step"][table["step"].map(self.drop.is_before)]
        return table[table["step"] == (steps.max() if len(steps) else table["step"].min())]

    def at_onset(self, name: str) -> pd.DataFrame:
        """Rows of a table at its last step up to the onset, where the fall may have begun."""
        table = self.tables[name]
        return table[table["step"] == table.loc[table["step"] <= self.plateau_end, "step"].max()]

    def at_end(self, name: str) -> pd.DataFrame:
        """Rows of a table at its last step."""
        table = self.tables[name]
        return table[table["step"] == table["step"].max()]


def onset(drop: Drop) -> float:
    return math.nan if drop.onset is None else float(drop.onset)


def measure(runs: dict[int, SeedRun], quantity: Callable[[SeedRun], float]) -> dict[int, float]:
    return {seed: float(quantity(run)) for seed, run in runs.items()}


def near_one(
    claim: int, figure: str, quantity: str, evidence: str, values: dict[int, float], tolerance: float = LEVEL_TOLERANCE
) -> Finding:
    return Finding(
        claim,
        figure,
        quantity,
        "ratio",
        f"{1 - tolerance:g} to {1 + tolerance:g}",
        evidence,
        values,
        lambda ratio: abs(ratio - 1) <= tolerance,
    )
