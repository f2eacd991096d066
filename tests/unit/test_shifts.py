import pandas as pd

from abrupt.task import TASK_COLUMNS, all_tasks, along, axes, changed, difference, of_task

TASK = {
    "mask_probability": 0.3,
    "rank": 1,
    "rows": 7,
    "columns": 7,
    "factor_law": "uniform",
    "factor_scale": 1,
    "max_value": 10,
}
SHIFTS = {
    "mask_probability": [0.1, 0.3],
    "rank": [1, 2],
    "rows": [5],
    "columns": [],
    "factor_scale": {"uniform": [1, 2], "gaussian": [1], "laplace": []},
}


def test_axes_are_keys_of_the_task_or_scales_of_a_law():
    assert list(axes(SHIFTS)) == [
        *("mask_probability", "rank", "rows", "columns"),
        *("factor_scale.uniform", "factor_scale.gaussian", "factor_scale.laplace"),
    ]


def test_change_of_a_scale_changes_the_law_too():
    assert changed(TASK, "factor_scale.gaussian", 0.5) == TASK | {"factor_law": "gaussian", "factor_scale": 0.5}
    assert changed(TASK, "rows", 5) == TASK | {"rows": 5}


def test_every_task_comes_once_and_the_task_itself_first():
    assert all_tasks(TASK, SHIFTS) == [
        TASK,
        TASK | {"mask_probability": 0.1},
        TASK | {"rank": 2},
        TASK | {"rows": 5},
        TASK | {"factor_scale": 2},
        TASK | {"factor_law": "gaussian"},
    ]


def table():
    tasks = all_tasks(TASK, SHIFTS)
    return pd.DataFrame([{name: task[name] for name in TASK_COLUMNS} for task in tasks]).assign(
        number=range(len(tasks))
    )


def test_rows_of_the_task_are_not_those_of_a_variant():
    assert of_task(table(), TASK)["number"].tolist() == [0]
    assert of_task(table(), TASK | {"factor_law": "gaussian"})["number"].tolist() == [5]


def test_rows_along_an_axis_are_the_task_and_its_variants():
    assert along(table(), TASK, "mask_probability")[["number", "value"]].to_numpy().tolist() == [[0, 0.3], [1, 0.1]]
    assert along(table(), TASK, "rank")["value"].tolist() == [1, 2]
    assert along(table(), TASK, "columns")["number"].tolist() == [0]


def test_rows_along_the_scales_of_a_law_are_of_that_law_alone():
    assert along(table(), TASK, "factor_scale.uniform")["number"].tolist() == [0, 4]
    assert along(table(), TASK, "factor_scale.gaussian")["number"].tolist() == [5]


def test_difference_of_two_tasks_names_each_change():
    assert difference(TASK, changed(TASK, "factor_scale.gaussian", 2)) == "factor_law gaussian, factor_scale 2"
    assert difference(TASK, TASK) == "as trained"
