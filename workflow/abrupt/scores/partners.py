"""What a table of partners says: maps, lines left over, the error that a map predicts, and the claim's quantities.

The table is that of `abrupt.analyses.partners`, which says what queries, gains and partners are. Positions are counted
from 1, row by row, as in the table. A partner counts if it decides: with the query's other partners masked, observing
it raises the share of matrices in which the query is solved by DECIDES or more.

The error of a map. A query (i, j) with the partner (l, j) in its column is predicted as x_lj times the ratio of the rows
i and l, which any column k shows that is observed in both. If the network reads the ratio through the edges that it has,
that column must be one whose own entry (i, k) has the partner (l, k). The query fails, and costs E[x^2], if no partner
is observed together with such a column; rows and columns change places for a partner in the query's row. For one
partner and all queries paired by rows that is p + (1 - p) (1 - (1 - p)^2)^(columns - 1), 0.31 at 7 x 7 and p = 0.3, and
about p^k with k partners. No number is fitted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from abrupt.scores.heads import ATTENDED
from abrupt.task import Task

DECIDES = 0.5  # gain of a partner with all others masked
MASKS = 20_000  # that a level is computed on: its error is below 1 %
# What may become of a masked entry. An entry that needs several positions, and no one decides, has no partner: it is
# decided if all of them are observed.
CONDITIONS = ("no_partner", "partner_masked", "no_shared_line", "not_through_map", "decided")
NO_PARTNER, MASKED, NO_SHARED_LINE, NOT_THROUGH_MAP, DECIDED = range(len(CONDITIONS))


def part(table: pd.DataFrame, name: str, step: int | None = None) -> pd.DataFrame:
    """The rows of one part of the analysis (edges, queries, conditions, ratios, heads, interventions, cuts), at one step
    if it is given, without the columns of other parts."""
    rows = table[table["part"] == name]
    rows = rows if step is None else rows[rows["step"] == step]
    return rows.dropna(axis="columns", how="all").drop(columns="part").reset_index(drop=True)


def matrix(table: pd.DataFrame, task: Task, step: int, column: str) -> np.ndarray:
    """One column of the edges as (T, T), query then position; nan where the query itself is."""
    rows = table[(table["part"] == "edges") & (table["step"] == step)]
    values = np.full((task.num_entries, task.num_entries), np.nan)
    values[rows["query"].astype(int) - 1, rows["key"].astype(int) - 1] = rows[column]
    return values


def partner_map(table: pd.DataFrame, task: Task, step: int) -> np.ndarray:
    """Which positions are a query's partners, bool (T, T)."""
    return matrix(table, task, step, "gain_alone") >= DECIDES


def needed_map(table: pd.DataFrame, task: Task, step: int) -> np.ndarray:
    """Which positions a query needs all observed, bool (T, T): one if a partner decides, three of a fixed 2 x 2 minor."""
    return matrix(table, task, step, "needed") > 0


def conditions(task: Task, partners: np.ndarray, needed: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Which of CONDITIONS each query is in, were it masked: its number, (B, T). `partners` and `needed` are bool
    (T, T), `observed` (B, rows, columns); a query takes the best of its partners."""
    rows, columns = task.rows, task.columns
    edge = partners.reshape(rows, columns, rows, columns)
    result = np.full((len(observed), task.num_entries), NO_PARTNER, dtype=np.int8)
    for query in range(task.num_entries):
        i, j = divmod(query, columns)
        if not partners[query].any():
            if needed[query].sum() > 1:
                all_seen = observed.reshape(len(observed), -1)[:, needed[query]].all(1)
                result[:, query] = np.where(all_seen, DECIDED, MASKED)
            continue
        for key in np.flatnonzero(partners[query]):
            row, column = divmod(key, columns)
            by_map = edge[i, np.arange(columns), row, np.arange(columns)]
            other_columns = ~np.isin(np.arange(columns), [j, column])
            in_rows = observed[:, i] & observed[:, row] & other_columns
            by_map_rows = edge[np.arange(rows), j, np.arange(rows), column]
            other_rows = ~np.isin(np.arange(rows), [i, row])
            in_columns = observed[:, :, j] & observed[:, :, column] & other_rows
            shared = np.ones(len(observed), dtype=bool)
            through = shared
            if row != i:
                shared, through = shared & in_rows.any(1), through & (in_rows & by_map).any(1)
            if column != j:
                shared, through = shared & in_columns.any(1), through & (in_columns & by_map_rows).any(1)
            state = np.select([~observed[:, row, column], through, shared], [MASKED, DECIDED, NOT_THROUGH_MAP],
                              NO_SHARED_LINE)  # fmt: skip
            result[:, query] = np.maximum(result[:, query], state)
    return result


@dataclass(frozen=True)
class Level:
    """Masked-entry MSE that a map predicts, and that of each query (T,); `any_line` if the ratio may be read from every
    shared line, not only through the map."""

    mse: float
    any_line: float
    of_query: np.ndarray


def predicted_level(task: Task, partners: np.ndarray, needed: np.ndarray) -> Level:
    """The error of a map, over MASKS random masks, always the same."""
    shape = (MASKS, task.rows, task.columns)
    observed = np.random.default_rng(0).random(shape) >= task.mask_probability
    state = conditions(task, partners, needed, observed)
    of_query = task.entry_variance * (state != DECIDED).mean(0)
    any_line = task.entry_variance * (state < NOT_THROUGH_MAP).mean()
    return Level(float(of_query.mean()), float(any_line), of_query)


def pairs(task: Task, partners: np.ndarray) -> pd.DataFrame:
    """How many queries of a line have a partner in another: axis (row, column), line, partner_line (from 1), queries.

    Axis `row` has the partners in the query's own column, so that its row is paired with theirs; a partner in
    neither counts for both.
    """
    query, key = np.nonzero(partners)
    tables = []
    for axis, of in (("row", lambda position: position // task.columns), ("column", lambda at: at % task.columns)):
        lines = pd.DataFrame({"axis": axis, "line": of(query) + 1, "partner_line": of(key) + 1})
        lines = lines[lines["line"] != lines["partner_line"]]
        tables.append(lines.groupby(["axis", "line", "partner_line"]).size().rename("queries").reset_index())
    return pd.concat(tables, ignore_index=True)


def left_over(task: Task, partners: np.ndarray) -> dict[str, list[int]]:
    """The rows, and the columns, that are nobody's partner (from 1), of an axis along which any are paired."""
    found = pairs(task, partners)
    lines = {"row": task.rows, "column": task.columns}
    return {
        axis: sorted(set(range(1, lines[axis] + 1)) - set(of_axis["partner_line"]))
        for axis, of_axis in found.groupby("axis")
    }


def same_lines(task: Task) -> np.ndarray:
    """Which positions are in a query's row or column, without itself: bool (T, T)."""
    row, column = np.divmod(np.arange(task.num_entries), task.columns)
    return ((row[:, None] == row) | (column[:, None] == column)) & ~np.eye(task.num_entries, dtype=bool)


def later_attention(table: pd.DataFrame, task: Task, rest_step: int) -> pd.DataFrame:
    """Attention in the first layer, at every step, to the partners at `rest_step`; one row a step.

    Columns: step; attention, of the strongest head to the query's first partner, mean over queries with one; others,
    the same to the other positions of its row and column; share_largest, of queries for which none of these gets
    more; chance, what share_largest is if they are alike.
    """
    partners = partner_map(table, task, rest_step)
    order = np.where(partners, matrix(table, task, rest_step, "partner"), np.inf)
    queries = np.flatnonzero(partners.any(1))
    key = order[queries].argmin(1)
    lines = same_lines(task)[queries]
    lines[np.arange(len(queries)), key] = True  # a partner in neither row nor column is compared with these
    rows = []
    for step in sorted(table["step"].unique()):
        attention = np.where(lines, matrix(table, task, step, "attention")[queries], np.nan)
        to_partner = attention[np.arange(len(queries)), key]
        others = attention.copy()
        others[np.arange(len(queries)), key] = np.nan
        rows.append(
            {
                "step": step,
                "attention": to_partner.mean(),
                "others": np.nanmean(others),
                "share_largest": (to_partner >= np.nanmax(attention, axis=1)).mean(),
                "chance": (1 / lines.sum(1)).mean(),
            }
        )
    return pd.DataFrame(rows)


def intervention(table: pd.DataFrame, step: int, kind: str, role: str) -> pd.Series:
    """One row of the interventions; nan throughout if there was no such case."""
    rows = part(table, "interventions", step)
    if not len(rows):
        return pd.Series(dtype=float).reindex(["flipped", "stays", "follows", "attention", "count"])
    rows = rows[(rows["intervention"] == kind) & (rows["role"] == role)]
    return rows.iloc[0] if len(rows) else rows.reindex([0]).iloc[0]
