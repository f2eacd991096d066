"""The matrix-completion task (the paper's set-up) and its shifts, each of which changes one thing (Figures 3 and 19).

Nothing here needs PyTorch, so that the driver, the scores, the figures and the claims can import it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the driver imports this module without pandas
    import pandas as pd

MASK_TOKEN = 0

# The variance of a factor's entry at scale 1, for the laws Unif[-scale, scale], N(0, scale^2), Laplace(0, scale).
FACTOR_VARIANCE = {"uniform": 1 / 3, "gaussian": 1.0, "laplace": 2.0}

# A shift may change these fields. In a table of results, columns of the same names say of which task a row's matrix is.
TASK_COLUMNS = ("mask_probability", "rank", "rows", "columns", "factor_law", "factor_scale")


@dataclass(frozen=True)
class Task:
    """The law of the matrices X = U V^T, and how the model sees them.

    X has `rows` x `columns` entries and rank `rank`. The entries of U and V are iid with `factor_law` and
    `factor_scale`. The entries of X are rounded to `decimals` decimals, and each is masked with `mask_probability`. The
    vocabulary has one token id for each rounded value in [-max_value, max_value], after the MASK token with id 0.
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
        """E[x^2] of an entry before rounding: rank times the squared variance of a factor's entry.

        A model that predicts 0 has this MSE at masked entries. It is rank / 9 for uniform factors at scale 1 (the
        paper's).
        """
        return self.rank * (FACTOR_VARIANCE[self.factor_law] * self.factor_scale**2) ** 2

    @property
    def bounded(self) -> bool:
        """Whether no entry can lie outside the vocabulary. Uniform factors give |x| <= rank * scale^2."""
        return self.factor_law == "uniform" and self.rank * self.factor_scale**2 <= self.max_value

    def changed(self, axis: str, value: float) -> "Task":
        """Return the task with one change along `axis`.

        An axis is a field of the task, or factor_scale.<law>, which changes both law and scale.
        """
        name, _, law = axis.partition(".")
        return replace(self, **({"factor_law": law} if law else {}), **{name: value})

    def difference(self, other: "Task") -> str:
        """Say in what `other` differs from this task: 'factor_law gaussian, factor_scale 2', or 'as trained'."""
        own = asdict(self)
        changes = [f"{name} {value}" for name, value in asdict(other).items() if value != own[name]]
        return ", ".join(changes) or "as trained"


def axes(shifts: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return each axis of the config's `analyses.completion.shifts` with its values.

    The axes have the order of the task's fields, and each law's factor_scale comes last.
    """
    scales = shifts["factor_scale"]
    laws = {f"factor_scale.{law}": scales[law] for law in FACTOR_VARIANCE if law in scales}
    return {axis: shifts[axis] for axis in TASK_COLUMNS if axis in shifts and axis != "factor_scale"} | laws


def all_tasks(task: Task, shifts: Mapping[str, Any]) -> list[Task]:
    """Return the task itself, then every other task of `shifts`, each once."""
    tasks = [task]
    for axis, values in axes(shifts).items():
        tasks += [task.changed(axis, value) for value in values if task.changed(axis, value) not in tasks]
    return tasks


def rows_of_task(table: "pd.DataFrame", task: Task, free: str | None = None) -> "pd.DataFrame":
    """Return the rows of `table` whose matrices are of `task`. The column `free` may have any value."""
    for name in TASK_COLUMNS:
        if name == "factor_law":
            table = table[table[name] == task.factor_law]
        elif name != free:
            table = table[(table[name] - getattr(task, name)).abs() < 1e-6]  # CSVs keep eight digits
    return table


def rows_along(table: "pd.DataFrame", task: Task, axis: str) -> "pd.DataFrame":
    """Return the rows of `table` whose matrices differ from those of `task` along `axis` alone.

    Adds the columns axis and value, the value of the row's task on this axis.
    """
    name = axis.partition(".")[0]
    rows = rows_of_task(table, task.changed(axis, getattr(task, name)), free=name)
    return rows.assign(axis=axis, value=rows[name])
