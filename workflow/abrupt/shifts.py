"""Distribution shifts: changes of the task, one at a time, that model and classical baselines meet (Figures 3, 19).

Tables of results have the columns `TASK_COLUMNS`: they say of each row what task its matrix is of. No PyTorch here.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the driver imports this module without pandas
    import pandas as pd

# What a shift may change, and what tells its rows from others'.
TASK_COLUMNS = ("mask_probability", "rank", "rows", "columns", "factor_law", "factor_scale")


def axes(shifts: dict[str, Any]) -> dict[str, list[float]]:
    """Axis -> values, of the config's `analyses.completion.shifts`. An axis is a key of the task, or
    factor_scale.<law>, which changes both law and scale."""
    of_laws = {f"factor_scale.{law}": scales for law, scales in shifts["factor_scale"].items()}
    return {axis: values for axis, values in shifts.items() if axis != "factor_scale"} | of_laws


def changed(task: dict[str, Any], axis: str, value: float) -> dict[str, Any]:
    """The task with one change."""
    name, _, law = axis.partition(".")
    return {**task, **({"factor_law": law} if law else {}), name: value}


def all_tasks(task: dict[str, Any], shifts: dict[str, Any]) -> list[dict[str, Any]]:
    """The task itself, then every other task of `shifts`, each once."""
    tasks = [task]
    for axis, values in axes(shifts).items():
        tasks += [changed(task, axis, value) for value in values if changed(task, axis, value) not in tasks]
    return tasks


def of_task(table: "pd.DataFrame", task: dict[str, Any], free: str | None = None) -> "pd.DataFrame":
    """The rows of `table` whose matrices are of `task`, whatever they have in the column `free`."""
    for name in TASK_COLUMNS:
        if name == "factor_law":
            table = table[table[name] == task[name]]
        elif name != free:
            table = table[(table[name] - task[name]).abs() < 1e-6]  # CSVs keep eight digits
    return table


def along(table: "pd.DataFrame", task: dict[str, Any], axis: str) -> "pd.DataFrame":
    """The rows of `table` whose matrices differ from those of `task` along the axis alone, which is in the column
    `value`."""
    name = axis.partition(".")[0]
    rows = of_task(table, changed(task, axis, task[name]), free=name)
    return rows.assign(axis=axis, value=rows[name])


def difference(task: dict[str, Any], other: dict[str, Any]) -> str:
    """'factor_law gaussian, factor_scale 2': in what `other` differs from `task`; 'as trained' if in nothing."""
    return ", ".join(f"{name} {value}" for name, value in other.items() if value != task[name]) or "as trained"
