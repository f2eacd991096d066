from dataclasses import asdict, replace

import pandas as pd

from abrupt.task import TASK_COLUMNS, Task, all_tasks, axes, rows_along, rows_of_task

TASK = Task(
    rows=7, columns=7, rank=1, mask_probability=0.3, decimals=2, max_value=10, factor_law="uniform", factor_scale=1
)
SHIFTS = {
    "mask_probability": [0.1, 0.3],
    "rank": [1, 2],
    "rows": [5],
    "columns": [],
    "factor_scale": {"uniform": [1, 2], "gaussian": [1], "laplace": []},
}


def test_vocabulary_of_the_paper_has_2001_values_and_the_mask():
    assert TASK.vocab_size == 2002


def test_axes_are_fields_of_the_task_or_scales_of_a_law():
    assert list(axes(SHIFTS)) == [
        *("mask_probability", "rank", "rows", "columns"),
        *("factor_scale.uniform", "factor_scale.gaussian", "factor_scale.laplace"),
    ]


def test_change_of_a_scale_changes_the_law_too():
    assert TASK.changed("factor_scale.gaussian", 0.5) == replace(TASK, factor_law="gaussian", factor_scale=0.5)
    assert TASK.changed("rows", 5) == replace(TASK, rows=5)


def test_every_task_comes_once_and_the_task_itself_first():
    assert all_tasks(TASK, SHIFTS) == [
        TASK,
        replace(TASK, mask_probability=0.1),
        replace(TASK, rank=2),
        replace(TASK, rows=5),
        replace(TASK, factor_scale=2),
        replace(TASK, factor_law="gaussian"),
    ]


def table():
    tasks = [asdict(task) for task in all_tasks(TASK, SHIFTS)]
    return pd.DataFrame(tasks)[list(TASK_COLUMNS)].assign(number=range(len(tasks)))


def test_rows_of_the_task_are_not_those_of_a_variant():
    assert rows_of_task(table(), TASK)["number"].tolist() == [0]
    assert rows_of_task(table(), replace(TASK, factor_law="gaussian"))["number"].tolist() == [5]


def test_rows_along_an_axis_are_the_task_and_its_variants():
    masked = rows_along(table(), TASK, "mask_probability")
    assert masked[["number", "value"]].to_numpy().tolist() == [[0, 0.3], [1, 0.1]]
    assert rows_along(table(), TASK, "rank")["value"].tolist() == [1, 2]
    assert rows_along(table(), TASK, "columns")["number"].tolist() == [0]


def test_rows_along_the_scales_of_a_law_are_of_that_law_alone():
    assert rows_along(table(), TASK, "factor_scale.uniform")["number"].tolist() == [0, 4]
    assert rows_along(table(), TASK, "factor_scale.gaussian")["number"].tolist() == [5]


def test_difference_of_two_tasks_names_each_change():
    assert TASK.difference(TASK.changed("factor_scale.gaussian", 2)) == "factor_law gaussian, factor_scale 2"
    assert TASK.difference(TASK) == "as trained"
