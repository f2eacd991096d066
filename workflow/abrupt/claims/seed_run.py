"""The tables of one seed's run, and what several claims take from them."""

from functools import cached_property

import pandas as pd

from abrupt.claims.finding import NotDecided, Value, no_drop, onset
from abrupt.scores.drop import PLATEAU_SHARE, Drop, detect_drop
from abrupt.task import Task, rows_of_task

PAPER_STEPS = 50_000


class SeedRun:
    """One seed's run. `training` and each of `components` are as in training.csv; `head_scores`, `completion`,
    `token_intervention`, `baselines` and the other `tables` as their CSVs. All are of this seed alone."""

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

    @property
    def onset(self) -> Value:
        return onset(self.drop)

    def found_drop(self) -> Drop:
        """The drop; NotDecided if there is none: the run cannot tell what comes after it."""
        if not self.drop.found:
            raise NotDecided(no_drop(self.drop))
        return self.drop

    @cached_property
    def completion(self) -> pd.DataFrame:
        """Errors of the final model on matrices of the task itself, with the matrix as index.

        NotDecided if the run ended without a drop before the paper's number of steps.
        """
        if self.drop.last_step < PAPER_STEPS:
            self.found_drop()
        return rows_of_task(self.tables["completion"], self.task).set_index("matrix")

    @cached_property
    def nuclear_norm(self) -> pd.DataFrame:
        """Errors of nuclear-norm minimisation on the same matrices, with the matrix as index."""
        rows = rows_of_task(self.tables["baselines"], self.task)
        return rows[rows["method"] == "nuclear_norm"].set_index("matrix")

    @cached_property
    def late_plateau(self) -> pd.Series:
        """Mean training metrics late on the plateau and well before its end, which is defined by the level itself.

        NotDecided if nothing was logged there.
        """
        end, step = self.drop.plateau_end, self.training["step"]
        late = self.training[(step >= end / 2) & (step <= PLATEAU_SHARE * end)]
        if not len(late):
            raise NotDecided("no logged step well before the drop")
        return late.mean()

    def at_plateau(self, name: str) -> pd.DataFrame:
        """Rows of a table at its last step well before the drop; NotDecided if it has none."""
        table = self.tables[name]
        steps = table["step"][table["step"].map(self.drop.is_before)]
        if not len(steps):
            raise NotDecided("no extracted step well before the drop")
        return table[table["step"] == steps.max()]

    def at_onset(self, name: str) -> pd.DataFrame:
        """Rows of a table at its last step up to the onset, when the fall may have begun; NotDecided if none is."""
        table = self.tables[name]
        steps = table["step"][table["step"] <= self.drop.plateau_end]
        if not len(steps):
            raise NotDecided("no extracted step up to the onset")
        return table[table["step"] == steps.max()]

    def at_end(self, name: str) -> pd.DataFrame:
        """Rows of a table at its last step; NotDecided if that is not after the drop."""
        table = self.tables[name]
        last = table["step"].max()
        if last < self.found_drop().completion:
            raise NotDecided("no extracted step after the drop")
        return table[table["step"] == last]
