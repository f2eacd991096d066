"""Findings as a table, verdicts over the parts of each claim, and the page to read."""

import math

import pandas as pd

from abrupt.claims import CLAIMS
from abrupt.claims.finding import HELD, NOT_HELD, Finding
from abrupt.claims.page import html_page
from abrupt.task import Task


def claims_table(found: list[Finding]) -> pd.DataFrame:
    """One row a finding: claim, quantity, measured (median over seeds), criterion, verdict, evidence, unit,
    figure, per_seed, over_seeds (their number and range), statement, source."""
    return pd.DataFrame(
        {
            "claim": finding.claim,
            "quantity": finding.quantity,
            "measured": finding.measured,
            "criterion": finding.criterion,
            "verdict": finding.verdict,
            "evidence": finding.evidence,
            "unit": finding.unit,
            "figure": finding.figure,
            "per_seed": "; ".join(
                f"seed {seed}: {_number(value, finding.missing)}" for seed, value in finding.values.items()
            ),
            "over_seeds": _range(list(finding.values.values())),
            "statement": CLAIMS[finding.claim][0],
            "source": CLAIMS[finding.claim][1],
        }
        for finding in found
    )


def _number(value: float, missing: str) -> str:
    return missing if math.isnan(value) else f"{value:.4g}"


def _range(values: list[float]) -> str:
    """'1 seed', or '3 seeds: 0.1 to 0.4', without a range if one of them has no value; nothing if there is none."""
    if len(values) < 2:
        return "1 seed" if values else ""
    number = f"{len(values)} seeds"
    return number if any(map(math.isnan, values)) else f"{number}: {min(values):.4g} to {max(values):.4g}"


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
    table = table.assign(measured=measured).rename(columns={"over_seeds": "over seeds"})
    return table[["claim", "quantity", "measured", "over seeds", "criterion", "verdict", "evidence"]]


def introduction(scale: str, task: Task, seeds: list[int]) -> str:
    """What was run, and how to read the verdicts, in a few sentences."""
    return (
        f"Scale {scale}: {task.rows} x {task.columns} matrices of rank {task.rank}, mask probability "
        f"{task.mask_probability}; seeds {', '.join(map(str, seeds))}. A part held if its criterion holds for every "
        "seed; the number is the median over seeds, with their range beside it. Criteria are in "
        "workflow/abrupt/claims, the same for every seed and scale. Written after one seed had been seen at the cpu "
        "scale: those of claims 8 to 12, what counts as well before the drop (claims 2 and 5), and what follows from a "
        "component's run that ended without a drop (claim 6)."
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
    tables = "<h2>What was measured</h2>".join(part.to_html(index=False) for part in (verdicts(table), readable(table)))
    return html_page("Which claims held", f"<p>{introduction}</p>{tables}")
