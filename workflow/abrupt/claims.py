"""The paper's claims as data: what is measured, by which criterion, and whether it held in this run.

Criteria were written before any run was judged by them. They use levels computed for the task at hand
(rank/9, nuclear-norm minimisation on the same matrices, uniform attention), so that they mean the same
at every scale; the paper's own numbers are compared at paper scale only.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from abrupt.drop import ABRUPT_SHARPNESS, Drop, detect_drop, plateau_mse_masked

HELD, NOT_HELD = "held", "not held"
NOT_AT_THIS_SCALE, NOT_YET = "not tested at this scale", "not tested yet"

# Claim number -> statement, and where the paper makes it.
CLAIMS = {
    1: ("The loss sits on a plateau, then drops suddenly, at constant hyper-parameters.", "Figures 1 and 2"),
    2: (
        "On the plateau the model copies: observed entries are reproduced, masked ones predicted as the value "
        "that stands for MASK (0).",
        "Table 1",
    ),
    3: ("In the end matrices are completed with low error (about 4e-3 over all entries).", "final loss, about 4e-3"),
    4: (
        "The final model beats nuclear-norm minimisation, and its solutions have another nuclear norm: it does "
        "not implicitly minimise it.",
        "Figure 3, at the training mask probability",
    ),
    5: (
        "After the drop heads attend to the same row, the same column and observed entries; before it they do not.",
        "Figure 4",
    ),
    6: (
        "Trained alone, token embeddings and MLPs show no plateau; attention does, and drops earlier than normal "
        "training; position embeddings drop last.",
        "Figure 8",
    ),
    7: (
        "Learning the required structure through attention layers and embeddings causes the sudden drop.",
        "a hypothesis of the paper",
    ),
}

# Criteria.
COPYING_TOLERANCE = 0.05  # mean squared deviation from copying, as a share of rank/9
LEVEL_TOLERANCE = 0.1  # relative deviation from an analytic level
FINAL_SHARE = 0.06  # the paper's 4e-3 over its plateau, 0.3 * 2/9
PAPER_FINAL_MSE = 5e-3  # "about 4e-3"
STANDARD_ERRORS = 2
ATTENDED = 2  # times the share of uniform attention
AVOIDED = 0.5  # times the share of uniform attention
NO_PLATEAU = 0.1  # onset as a share of normal training's
PAPER_LATEST_POSITION_ONSET = 40_000


@dataclass(frozen=True)
class Finding:
    """One measured quantity of a claim. `values` has one number a seed; nan is one that is `missing`, which
    never holds. Without `holds` it is `untested`."""

    claim: int
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
        return HELD if all(self.holds(value) for value in self.values.values()) else NOT_HELD

    @property
    def measured(self) -> float:
        """The median over seeds, nan if any seed has none."""
        return float(np.median(list(self.values.values()))) if self.values else math.nan


class SeedRun:
    """One seed's tables, and what several claims need from them.

    `training` and each of `components` as in training.csv, `head_scores`, `completion`,
    `token_intervention` and `nuclear_norm` as their CSVs, all of this seed alone.
    """

    def __init__(
        self,
        rank: int,
        mask_probability: float,
        training: pd.DataFrame,
        components: dict[str, pd.DataFrame],
        **tables: pd.DataFrame,
    ):
        self.plateau = plateau_mse_masked(rank)
        self.plateau_all = mask_probability * self.plateau
        self.training, self.tables = training, tables
        self.drop = self._drop(training)
        self.component_drops = {name: self._drop(table) for name, table in components.items()}

    def _drop(self, training: pd.DataFrame) -> Drop:
        return detect_drop(training["step"], training["mse_masked"], self.plateau)

    @property
    def onset(self) -> float:
        return _onset(self.drop)

    @property
    def plateau_end(self) -> int:
        """The onset, or the last step if there was no drop."""
        return self.drop.onset if self.drop.found else self.drop.last_step

    @cached_property
    def late_plateau(self) -> pd.Series:
        """Mean training metrics over the second half of the plateau."""
        step = self.training["step"]
        rows = self.training[(step >= self.plateau_end / 2) & (step <= max(self.plateau_end, step.iloc[0]))]
        return rows.mean()

    def at_plateau(self, name: str) -> pd.DataFrame:
        """Rows of a table at its last step on the plateau (its first step, if all are later)."""
        table = self.tables[name]
        steps = table["step"][table["step"] <= self.plateau_end]
        return table[table["step"] == (steps.max() if len(steps) else table["step"].min())]

    def at_end(self, name: str) -> pd.DataFrame:
        """Rows of a table at its last step."""
        table = self.tables[name]
        return table[table["step"] == table["step"].max()]


def _onset(drop: Drop) -> float:
    return math.nan if drop.onset is None else float(drop.onset)


def lift(scores: pd.DataFrame, key_group: str) -> pd.Series:
    """Each head's share of attention on a key group, over that of uniform attention; all queries, random masks."""
    chosen = scores[
        (scores["mask_pattern"] == "random") & (scores["query_group"] == "all") & (scores["key_group"] == key_group)
    ]
    return chosen["share"] / chosen["uniform_share"]


def paired(run: SeedRun, column: str) -> tuple[float, float]:
    """Mean and standard error of (final model - nuclear-norm minimisation) over the same matrices."""
    model = run.at_end("completion").set_index("matrix")[column]
    difference = model - run.tables["nuclear_norm"].set_index("matrix")[column]
    return float(difference.mean()), float(difference.sem())


def findings(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    """Every quantity of every claim for `runs`, seed -> tables; `results` is the folder of the evidence."""
    training = f"{results}/pretrain/seed*/training.csv"
    for part in (_plateau_and_drop, _copying, _final_error, _nuclear_norm, _attention, _components):
        yield from part(runs, scale, results, training)
    yield Finding(7, "earlier drop with the structure given", "", "-", "-", untested=NOT_YET)


def _measure(runs: dict[int, SeedRun], quantity: Callable[[SeedRun], float]) -> dict[int, float]:
    return {seed: float(quantity(run)) for seed, run in runs.items()}


def _plateau_and_drop(runs, scale, results, training):
    last = next(iter(runs.values())).drop.last_step
    yield Finding(
        1,
        "onset of the drop",
        "updates",
        f"before step {last}",
        training,
        _measure(runs, lambda run: run.onset),
        lambda onset: onset < last,
        "no drop",
    )
    yield Finding(
        1,
        "sharpness: onset / duration of the drop",
        "ratio",
        f">= {ABRUPT_SHARPNESS:g}",
        training,
        _measure(runs, lambda run: run.drop.sharpness),
        lambda sharpness: sharpness >= ABRUPT_SHARPNESS,
    )


def _copying(runs, scale, results, training):
    yield Finding(
        2,
        "MSE at observed entries, late plateau / (rank/9)",
        "ratio",
        f"<= {COPYING_TOLERANCE:g}",
        training,
        _measure(runs, lambda run: run.late_plateau["mse_observed"] / run.plateau),
        lambda ratio: ratio <= COPYING_TOLERANCE,
    )
    yield _near_one(
        2,
        "MSE at masked entries, late plateau / (rank/9)",
        training,
        _measure(runs, lambda run: run.late_plateau["mse_masked"] / run.plateau),
    )
    intervention = f"{results}/analyses/token_intervention/seed*.csv"

    def replaced(run: SeedRun) -> pd.DataFrame:
        return run.at_plateau("token_intervention").dropna(subset="token_value")

    yield Finding(
        2,
        "MASK replaced by value v: MSE of masked predictions to v / (rank/9), worst v",
        "ratio",
        f"<= {COPYING_TOLERANCE:g}",
        intervention,
        _measure(runs, lambda run: replaced(run)["mse_to_value"].max() / run.plateau),
        lambda ratio: ratio <= COPYING_TOLERANCE,
    )

    def worst_ratio(run: SeedRun) -> float:
        ratio = replaced(run)["mse_to_truth"] / replaced(run)["mse_if_copying"]
        return ratio[(ratio - 1).abs().idxmax()]

    yield _near_one(
        2,
        "MASK replaced by value v: MSE of masked predictions to the truth / (rank/9 + v^2), worst v",
        intervention,
        _measure(runs, worst_ratio),
    )


def _near_one(claim: int, quantity: str, evidence: str, values: dict[int, float]) -> Finding:
    return Finding(
        claim,
        quantity,
        "ratio",
        f"{1 - LEVEL_TOLERANCE:g} to {1 + LEVEL_TOLERANCE:g}",
        evidence,
        values,
        lambda ratio: abs(ratio - 1) <= LEVEL_TOLERANCE,
    )


def _final_error(runs, scale, results, training):
    completion = f"{results}/analyses/completion/seed*.csv"
    final = _measure(runs, lambda run: run.at_end("completion")["mse_all"].mean())
    yield Finding(
        3,
        "final MSE over all entries",
        "entry value squared",
        f"<= {PAPER_FINAL_MSE:g} (paper scale)",
        completion,
        final,
        (lambda mse: mse <= PAPER_FINAL_MSE) if scale == "paper" else None,
    )
    yield Finding(
        3,
        "final MSE / plateau MSE (mask probability * rank/9), all entries",
        "ratio",
        f"<= {FINAL_SHARE:g}, the paper's",
        completion,
        {seed: mse / runs[seed].plateau_all for seed, mse in final.items()},
        lambda ratio: ratio <= FINAL_SHARE,
    )


def _nuclear_norm(runs, scale, results, training):
    evidence = f"{results}/analyses/completion/seed*.csv, nuclear_norm/seed*.csv"
    yield Finding(
        4,
        "final MSE / MSE of nuclear-norm minimisation, all entries",
        "ratio",
        "< 1",
        evidence,
        _measure(
            runs,
            lambda run: run.at_end("completion")["mse_all"].mean() / run.tables["nuclear_norm"]["mse_all"].mean(),
        ),
        lambda ratio: ratio < 1,
    )

    def standard_errors(run: SeedRun, column: str) -> float:
        mean, error = paired(run, column)
        return mean / error if error else math.nan

    yield Finding(
        4,
        "the same difference, model - minimiser, paired by matrix",
        "standard errors",
        f"< -{STANDARD_ERRORS}",
        evidence,
        _measure(runs, lambda run: standard_errors(run, "mse_all")),
        lambda z: z < -STANDARD_ERRORS,
    )
    yield Finding(
        4,
        "nuclear norm, model - minimiser, paired by matrix",
        "standard errors",
        f"beyond +-{STANDARD_ERRORS}",
        evidence,
        _measure(runs, lambda run: standard_errors(run, "nuclear_norm")),
        lambda z: abs(z) > STANDARD_ERRORS,
    )


def _attention(runs, scale, results, training):
    evidence = f"{results}/attention/seed*/head_scores.csv"
    for when, rows_of, after in (
        ("last step", SeedRun.at_end, True),
        ("last step before the onset", SeedRun.at_plateau, False),
    ):
        for key_group in ("same_row", "same_column"):
            yield Finding(
                5,
                f"share on the {key_group.replace('_', ' ')} / uniform share, strongest head, {when}",
                "ratio",
                f"{'>=' if after else '<'} {ATTENDED}",
                evidence,
                _measure(
                    runs, lambda run, rows_of=rows_of, group=key_group: lift(rows_of(run, "head_scores"), group).max()
                ),
                lambda ratio, after=after: (ratio >= ATTENDED) == after,
            )
        yield Finding(
            5,
            f"share on masked entries / uniform share, weakest head, {when}",
            "ratio",
            f"{'<=' if after else '>'} {AVOIDED}",
            evidence,
            _measure(runs, lambda run, rows_of=rows_of: lift(rows_of(run, "head_scores"), "masked").min()),
            lambda ratio, after=after: (ratio <= AVOIDED) == after,
        )


def _components(runs, scale, results, training):
    evidence = f"{results}/components/*/seed*/training.csv"

    def onsets(name: str) -> dict[int, float]:
        """Of the runs of a component; empty if it is not among components.names."""
        return {seed: _onset(run.component_drops[name]) for seed, run in runs.items() if name in run.component_drops}

    def relative_onset(name: str) -> dict[int, float]:
        return {seed: onset / (runs[seed].onset or math.nan) for seed, onset in onsets(name).items()}

    for name, criterion, holds in (
        ("token_embedding", f"<= {NO_PLATEAU:g} (no plateau)", lambda ratio: ratio <= NO_PLATEAU),
        ("mlp", f"<= {NO_PLATEAU:g} (no plateau)", lambda ratio: ratio <= NO_PLATEAU),
        ("attention", f"> {NO_PLATEAU:g} (a plateau) and < 1 (earlier)", lambda ratio: NO_PLATEAU < ratio < 1),
        ("position_embedding", "> 1 (later than normal training)", lambda ratio: ratio > 1),
    ):
        values = relative_onset(name)
        quantity = f"{name.replace('_', ' ')} alone: onset / normal onset"
        yield Finding(6, quantity, "ratio", criterion, evidence, values, holds if values else None, "no drop", NOT_YET)
    yield Finding(
        6,
        "position embedding alone: onset",
        "updates",
        f"< {PAPER_LATEST_POSITION_ONSET} (paper scale)",
        evidence,
        onsets("position_embedding"),
        (lambda onset: onset < PAPER_LATEST_POSITION_ONSET) if scale == "paper" else None,
        "no drop",
    )


def claims_table(found: list[Finding]) -> pd.DataFrame:
    """One row a finding: claim, quantity, measured (median over seeds), criterion, verdict, evidence, unit,
    per_seed, statement, source."""
    return pd.DataFrame(
        {
            "claim": finding.claim,
            "quantity": finding.quantity,
            "measured": finding.measured,
            "criterion": finding.criterion,
            "verdict": finding.verdict,
            "evidence": finding.evidence,
            "unit": finding.unit,
            "per_seed": "; ".join(
                f"seed {seed}: {_number(value, finding.missing)}" for seed, value in finding.values.items()
            ),
            "statement": CLAIMS[finding.claim][0],
            "source": CLAIMS[finding.claim][1],
        }
        for finding in found
    )


def _number(value: float, missing: str) -> str:
    return missing if math.isnan(value) else f"{value:.4g}"


def overall_verdict(verdicts: list[str]) -> str:
    """A claim held if each part that was tested held; with none tested it was not tested."""
    tested = [verdict for verdict in verdicts if verdict in (HELD, NOT_HELD)]
    if not tested:
        return verdicts[0]
    held = tested.count(HELD)
    return HELD if held == len(tested) else f"{NOT_HELD} ({held} of {len(tested)} parts held)"


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """One row a claim: claim, statement, source, verdict over all its parts."""
    rows = []
    for claim, parts in table.groupby("claim"):
        statement, source = CLAIMS[claim]
        rows.append((claim, statement, source, overall_verdict(list(parts["verdict"]))))
    return pd.DataFrame(rows, columns=["claim", "statement", "source", "verdict"])


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The findings for a page: numbers rounded, with their units; each seed's where there is no median."""
    measured = [
        per_seed if math.isnan(value) else f"{value:.4g} {unit}"
        for value, unit, per_seed in zip(table["measured"], table["unit"], table["per_seed"], strict=True)
    ]
    return table.assign(measured=measured)[["claim", "quantity", "measured", "criterion", "verdict", "evidence"]]


def introduction(scale: str, task: dict[str, Any], seeds: list[int]) -> str:
    """What was run, and how to read the verdicts, in a few sentences."""
    return (
        f"Scale {scale}: {task['rows']} x {task['columns']} matrices of rank {task['rank']}, mask probability "
        f"{task['mask_probability']}; seeds {', '.join(map(str, seeds))}. A part held if its criterion holds for every "
        "seed; the number is the median over seeds. Criteria were fixed before the run, in workflow/abrupt/claims.py."
    )


def claims_markdown(table: pd.DataFrame, introduction: str) -> str:
    """The verdicts, then the findings, as a page of Markdown."""
    parts = ["# Which claims held", introduction, _markdown_table(verdicts(table))]
    return "\n\n".join([*parts, "## What was measured", _markdown_table(readable(table))]) + "\n"


def _markdown_table(table: pd.DataFrame) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(str(cell).replace("*", "\\*") for cell in row) + " |" for row in rows)


def claims_html(table: pd.DataFrame, introduction: str) -> str:
    """The same page for the report, where Markdown is not rendered."""
    style = "body{font:14px sans-serif;margin:1em}table{border-collapse:collapse;margin:1em 0}"
    style += "td,th{border:1px solid #bbb;padding:4px 8px;text-align:left;vertical-align:top}"
    tables = "<h2>What was measured</h2>".join(part.to_html(index=False) for part in (verdicts(table), readable(table)))
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Claims</title><style>{style}</style></head>'
        f"<body><h1>Which claims held</h1><p>{introduction}</p>{tables}</body></html>"
    )
