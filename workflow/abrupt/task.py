"""The matrix-completion task (the paper's set-up), and shifts of it: one change at a time (Figures 3 and 19).

Nothing here needs PyTorch: the driver, the scores, the figures and the claims import it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the driver imports this module without pandas
    import pandas as pd

MASK_TOKEN = 0

# Law -> variance of a factor's entry at scale 1: Unif[-scale, scale], N(0, scale^2), Laplace(0, scale).
FACTOR_VARIANCE = {"uniform": 1 / 3, "gaussian": 1.0, "laplace": 2.0}

# What a shift may change, and the columns of a table of results that say what task a row's matrix is of.
TASK_COLUMNS = ("mask_probability", "rank", "rows", "columns", "factor_law", "factor_scale")


@dataclass(frozen=True)
class Task:
    """Rounded rank-`rank` matrices of `rows` x `columns` entries, each masked with `mask_probability`.

    Their factors' entries are iid of `factor_law` and `factor_scale`. `decimals` is the rounding of the
    entries; the vocabulary holds every rounded value in [-max_value, max_value], one token id each, after
    the MASK token with id 0.
    """

    rows: int
    columns: int
    rank: int
    mask_probability: float
    decimals: int
    max_value: int
    factor_law: str
    factor_scale: float

    @property
    def num_entries(self) -> int:
        return self.rows * self.columns

    @property
    def vocab_size(self) -> int:
        return 2 * self.max_value * 10**self.decimals + 2

    @property
    def entry_variance(self) -> float:
        """E[x^2] of an entry, before rounding: rank times the squared variance of a factor's entry.

        It is the masked-entry MSE of predicting 0; rank / 9 for uniform factors at scale 1 (the paper's).
        """
        return self.rank * (FACTOR_VARIANCE[self.factor_law] * self.factor_scale**2) ** 2

    @property
    def bounded(self) -> bool:
        """Whether no entry can lie outside the vocabulary: |x| <= rank * scale^2 for uniform factors."""
        return self.factor_law == "uniform" and self.rank * self.factor_scale**2 <= self.max_value

    def changed(self, axis: str, value: float) -> "Task":
        """The task with one change; an axis is a field, or factor_scale.<law>, which changes both law and scale."""
        name, _, law = axis.partition(".")
        return replace(self, **({"factor_law": law} if law else {}), **{name: value})

    def difference(self, other: "Task") -> str:
        """'factor_law gaussian, factor_scale 2': in what `other` differs from this task; 'as trained' if in nothing."""
        own = asdict(self)
        changes = [f"{name} {value}" for name, value in asdict(other).items() if value != own[name]]
        return ", ".join(changes) or "as trained"


def axes(shifts: Mapping[str, Any]) -> dict[str, list[float]]:
    """Axis -> values, of the config's `analyses.completion.shifts`, in the order of the task's fields."""
    scales = shifts["factor_scale"]
    laws = {f"factor_scale.{law}": scales[law] for law in FACTOR_VARIANCE if law in scales}
    return {axis: shifts[axis] for axis in TASK_COLUMNS if axis in shifts and axis != "factor_scale"} | laws


def all_tasks(task: Task, shifts: Mapping[str, Any]) -> list[Task]:
    """The task itself, then every other task of `shifts`, each once."""
    tasks = [task]
    for axis, values in axes(shifts).items():
        tasks += [task.changed(axis, value) for value in values if task.changed(axis, value) not in tasks]
    return tasks


def rows_of_task(table: "pd.DataFrame", task: Task, free: str | None = None) -> "pd.DataFrame":
    """The rows of `table` whose matrices are of `task`, whatever they have in the column `free`."""
    for name in TASK_COLUMNS:
        if name == "factor_law":
            table = table[table[name] == task.factor_law]
        elif name != free:
            table = table[(table[name] - getattr(task, name)).abs() < 1e-6]  # CSVs keep eight digits
    return table


def rows_along(table: "pd.DataFrame", task: Task, axis: str) -> "pd.DataFrame":
    """The rows of `table` whose matrices differ from those of `task` along the axis alone, with the value there in the
    column `value`."""
    name = axis.partition(".")[0]
    rows = rows_of_task(table, task.changed(axis, getattr(task, name)), free=name)
    return rows.assign(axis=axis, value=rows[name])
