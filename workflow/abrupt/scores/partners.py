"""What a table of partners says: maps, lines left over, the error that a map predicts, and the claim's quantities.

The table is that of `abrupt.analyses.partners`, which says what queries, gains and partners are. Positions are counted
from 1, row by row, as in the table. A partner counts if it decides: with the query's other partners masked, observing
it raises the share of matrices in which the query is solved by DECIDES or more, and no other position is needed too.

The error of a map. A query (i, j) with the partner (l, j) in its column is predicted as x_lj times the ratio of rows i
and l, which any column k shows that is observed in both. The network reads the ratio through the edges that it has, so
that column must be one whose own entry (i, k) has the partner (l, k). The query fails, and costs E[x^2], if no partner
is observed together with such a column; rows and columns change places for a partner in the query's row. With one
partner for every query, all paired by rows, that is in p + (1 - p) (1 - (1 - p)^2)^(columns - 1) of cases, 0.31 at
7 x 7 and p = 0.3, and with k partners in about p^k. No number is fitted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from abrupt.scores.drop import MEDIAN_POINTS
from abrupt.scores.heads import ATTENDED
from abrupt.task import Task

DECIDES = 0.5  # gain of a partner with all others masked
MASKS = 20_000  # that a level is computed on: its error is below 1 %
# What may become of a masked entry. An entry that needs several positions, and no one decides, has no partner: it is
# decided if all of them are observed.
CONDITIONS = ("no_partner", "partner_masked", "no_shared_line", "not_through_map", "decided")
NO_PARTNER, MASKED, NO_SHARED_LINE, NOT_THROUGH_MAP, DECIDED = range(len(CONDITIONS))


def part(table: pd.DataFrame, name: str, step: int | None = None) -> pd.DataFrame:
    """The rows of one part (edges, queries, conditions, ratios, heads, interventions, cuts), at `step` if it is given,
    without the columns of other parts."""
    rows = table[table["part"] == name]
    rows = rows if step is None else rows[rows["step"] == step]
    return rows.drop(columns="part").dropna(axis="columns", how="all").reset_index(drop=True)


def matrix(table: pd.DataFrame, task: Task, step: int, column: str) -> np.ndarray:
    """One column of the edges as (T, T), query then position; nan where the query itself is."""
    rows = table[(table["part"] == "edges") & (table["step"] == step)]
    values = np.full((task.num_entries, task.num_entries), np.nan)
    values[rows["query"].astype(int) - 1, rows["key"].astype(int) - 1] = rows[column]
    return values


def partner_map(table: pd.DataFrame, task: Task, step: int) -> np.ndarray:
    """Which positions are a query's partners that decide, bool (T, T)."""
    sole = needed_map(table, task, step).sum(1) == 1
    return (matrix(table, task, step, "gain_alone") >= DECIDES) & sole[:, None]


def needed_map(table: pd.DataFrame, task: Task, step: int) -> np.ndarray:
    """Which positions a query needs all observed, bool (T, T): one if a partner decides, three for a fixed 2 x 2
    minor."""
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
    more; chance, what share_largest is if they are alike. No rows if no query has a partner at `rest_step`.
    """
    partners = partner_map(table, task, rest_step)
    order = np.where(partners, matrix(table, task, rest_step, "partner"), np.inf)
    queries = np.flatnonzero(partners.any(1))
    key = order[queries].argmin(1)
    lines = same_lines(task)[queries]
    lines[np.arange(len(queries)), key] = True  # a partner in neither row nor column is compared with these
    rows = []
    for step in sorted(table["step"].unique()) if len(queries) else []:
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
    return pd.DataFrame(rows, columns=["step", "attention", "others", "share_largest", "chance"])


def describe(table: pd.DataFrame, task: Task, step: int) -> pd.DataFrame:
    """The map at one step, one row for each query and each of its partners, or one without: row, column, kind, count,
    partner_row, partner_column (all from 1), gain.

    kind: `same_row` or `same_column`, of the partner; `elsewhere` for one in neither; `several` if the query needs
    several entries at once; `none`. count is the number of partners that decide. A partner that does not decide yet is
    there too, with a count of 0.
    """
    deciding, needed = partner_map(table, task, step), needed_map(table, task, step)
    order, gain = matrix(table, task, step, "partner"), matrix(table, task, step, "gain")
    rows = []
    for query in range(task.num_entries):
        row, column = divmod(query, task.columns)
        about = {"row": row + 1, "column": column + 1, "count": int(deciding[query].sum())}
        several = needed[query].sum() > 1
        keys = np.flatnonzero(deciding[query]) if deciding[query].any() else np.flatnonzero(order[query] == 1)
        if several or not len(keys):
            rows.append({**about, "kind": "several" if several else "none", "gain": np.nanmax(gain[query])})
            continue
        for key in keys:
            at_row, at_column = divmod(key, task.columns)
            kind = "same_row" if at_row == row else "same_column" if at_column == column else "elsewhere"
            partner = {"partner_row": at_row + 1, "partner_column": at_column + 1}
            rows.append({**about, "kind": kind, "gain": gain[query, key], **partner})
    columns = ["row", "column", "kind", "count", "partner_row", "partner_column", "gain"]
    return pd.DataFrame(rows, columns=columns)


def rest_step(step: np.ndarray, mse_masked: np.ndarray, plateau: float, measured: list[int]) -> int:
    """The one of the `measured` steps at which the loss changes least, of those between its falls below half and below
    a tenth of the plateau; the last measured step if there is none such. It looks at the loss alone."""
    smooth = pd.Series(np.asarray(mse_masked)).rolling(MEDIAN_POINTS, center=True, min_periods=1).median()
    smooth = pd.Series(smooth.to_numpy(), np.asarray(step))
    changes = {}
    for at in measured:
        before, after = (
            smooth[(smooth.index > 0.85 * at) & (smooth.index <= at)],
            smooth[(smooth.index > at) & (smooth.index <= 1.15 * at)],
        )
        if len(before) and len(after) and 0.1 * plateau < before.max() <= 0.5 * plateau:
            changes[at] = abs(np.log(after.mean() / before.mean()))
    return min(changes, key=changes.get, default=max(measured))


def seen_level(table: pd.DataFrame, step: int) -> float:
    """Masked-entry MSE on the matrices that partners are measured on."""
    rows = part(table, "conditions", step)
    return float(np.average(rows["mse_masked"], weights=rows["count"]))


def one_of(table: pd.DataFrame, name: str, step: int, column: str, **chosen: object) -> float:
    """A number of the row of one part that has the `chosen` values; nan if there is none, as without any partner."""
    rows = part(table, name, step)
    for key, value in chosen.items():
        if key not in rows:
            return np.nan
        rows = rows[rows[key] == value]
    return float(rows[column].iloc[0]) if len(rows) else np.nan


@dataclass(frozen=True)
class Criterion:
    """A quantity of the claim with what it has to be, and what it means if it is not; nan never holds."""

    quantity: str
    unit: str
    criterion: str
    holds: Callable[[float], bool]
    refutes: str


# Fixed on seeds 0 to 6, which suggested them, before any other seed was run. The rest is found from the loss alone.
CRITERIA = {
    "one_partner": Criterion(
        "share of queries with exactly one partner at the rest",
        "share",
        ">= 0.9",
        lambda share: share >= 0.9,
        "at the rest a masked entry hangs on several entries, or on none in particular",
    ),
    "level": Criterion(
        "masked-entry MSE at the rest / the level that its map predicts",
        "ratio",
        "0.9 to 1.1",
        lambda ratio: abs(ratio - 1) <= 0.1,
        "the rest is no matter of which partners are masked",
    ),
    "no_ratio": Criterion(
        "the same of entries whose partner is observed, but no line through the map that shows the ratio / E[x^2]",
        "ratio",
        ">= 0.8",
        lambda ratio: ratio >= 0.8,
        "the prediction is not the partner's value times a ratio read through the same edges",
    ),
    "flip": Criterion(
        "partner's sign flipped in the input: slope of the predictions on those before",
        "slope",
        "<= -0.9",
        lambda slope: slope <= -0.9,
        "the prediction does not follow the partner's value",
    ),
    "flip_line": Criterion(
        "another entry of the partner's line flipped: share of predictions that change sign",
        "share",
        "<= 0.05",
        lambda share: share <= 0.05,
        "any entry of the line does what the partner does",
    ),
    "flip_attended": Criterion(
        "the same share for the partner, less that for the position that gets most attention but for the partner",
        "share",
        ">= 0.5",
        lambda share: share >= 0.5,
        "any entry with attention on it does what the partner does",
    ),
    "cut": Criterion(
        "partners' edges cut in the first layer: masked-entry MSE / that of predicting 0",
        "ratio",
        ">= 0.9",
        lambda ratio: ratio >= 0.9,
        "the partner is read elsewhere too",
    ),
    "cut_attended": Criterion(
        "the next most attended position's edges cut there instead: masked-entry MSE / that without a cut",
        "ratio",
        "<= 1.1",
        lambda ratio: ratio <= 1.1,
        "any cut does what that of the partner does",
    ),
    "plateau": Criterion(
        "attention to the later partner, well before the drop / that to the other positions of its row and column",
        "ratio",
        f"< {ATTENDED}",
        lambda ratio: ratio < ATTENDED,
        "who becomes whose partner is decided on the plateau",
    ),
    "locked": Criterion(
        "share of queries whose partner gets the most attention of row and column in the first layer, at the rest",
        "share",
        ">= 0.9",
        lambda share: share >= 0.9,
        "the first layer's attention is not what selects the partner",
    ),
}


def claimed(table: pd.DataFrame, task: Task, plateau_step: int, rest_step: int) -> dict[str, float]:
    """The quantity of each of CRITERIA from one seed's table: nan where it does not exist, as without any partner.
    Both steps are among the table's, and chosen from the loss alone."""
    partners, needed = partner_map(table, task, rest_step), needed_map(table, task, rest_step)
    rows = part(table, "conditions", rest_step)
    rows = rows[rows["condition"].isin(["no_shared_line", "not_through_map"])]
    no_ratio = np.average(rows["mse_masked"], weights=rows["count"]) if len(rows) else np.nan
    numbers = {
        "one_partner": float((partners.sum(1) == 1).mean()),
        "level": seen_level(table, rest_step) / predicted_level(task, partners, needed).mse,
        "no_ratio": float(no_ratio / task.entry_variance),
    }

    def flip(column: str, role: str) -> float:
        return one_of(table, "interventions", rest_step, column, intervention="flip", role=role)

    def cut(column: str, edge: str, **layer: int) -> float:
        return one_of(table, "cuts", rest_step, column, edge=edge, **layer)

    numbers |= {
        "flip": flip("stays", "partner"),
        "flip_line": flip("flipped", "same_line"),
        "flip_attended": flip("flipped", "partner") - flip("flipped", "as_attended"),
        "cut": cut("mse_masked", "partner", layer=1) / cut("mse_zero", "none"),
        "cut_attended": cut("mse_masked", "as_attended", layer=1) / cut("mse_masked", "none"),
    }
    attention = later_attention(table, task, rest_step).set_index("step")
    before, at_rest = attention.reindex([plateau_step, rest_step]).to_dict("records")
    return numbers | {"plateau": before["attention"] / before["others"], "locked": at_rest["share_largest"]}
