"""Findings as a table, verdicts over the parts of each claim, and the page to read."""

import math

import pandas as pd

from abrupt.claims.finding import DECISIONS, Finding, counted, verdict_over_parts
from abrupt.task import Task

STYLE = (
    "body{font:14px sans-serif;margin:1em}table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #bbb;padding:4px 8px;text-align:left;vertical-align:top}"
)
HOW_JUDGED = (
    "A part is judged in every seed: held, not held, or not decided, if the run shows neither (it has no drop in its "
    "steps, nothing was extracted on the plateau, no other value was tried). A part is not held if it is not held in "
    "any one seed, held if it is held in at least one and fails in none, and not decided if no seed decides. A claim "
    "needs all its parts: it is not decided if one of them is not, unless another is not held. All seeds' values are "
    "shown, with their median."
)


def claims_table(found: list[Finding]) -> pd.DataFrame:
    """One row a finding: claim, quantity, measured (median over seeds, nan if a seed's value is not known), criterion,
    verdict, evidence, unit, figure, per_seed (all values), over_seeds (how many seeds, and their verdicts), statement,
    source."""
    return pd.DataFrame(
        {
            "claim": finding.claim.number,
            "quantity": finding.part.quantity,
            "measured": finding.median,
            "criterion": str(finding.part.criterion or "-"),
            "verdict": finding.verdict,
            "evidence": f"{finding.results}/{finding.part.evidence}" if finding.part.evidence else "-",
            "unit": finding.part.unit,
            "figure": finding.part.figure,
            "per_seed": "; ".join(f"seed {seed}: {value}" for seed, value in finding.values.items()),
            "over_seeds": _over_seeds(finding),
            "statement": finding.claim.statement,
            "source": finding.claim.source,
        }
        for finding in found
    )


def _over_seeds(finding: Finding) -> str:
    """'3 seeds: 2 held, 1 not decided'; nothing if nothing was measured."""
    count = len(finding.values)
    if count < 2:
        return "1 seed" if count else ""
    return f"{count} seeds" + (f": {counted(finding.verdicts)}" if finding.verdicts else "")


def claim_verdict(verdicts: list[str]) -> str:
    """The verdict of a claim, with a count of its parts where they differ."""
    verdict, counts = verdict_over_parts(verdicts), counted(verdicts)
    return f"{verdict} (parts: {counts})" if len({*verdicts} & {*DECISIONS}) > 1 else verdict


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """One row a claim: claim, statement, source, verdict over all its parts."""
    rows = [
        (*claim, claim_verdict(list(parts["verdict"])))
        for claim, parts in table.groupby(["claim", "statement", "source"])
    ]
    return pd.DataFrame(rows, columns=["claim", "statement", "source", "verdict"])


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The findings for a page: every seed's value, the median of several seeds, the unit."""
    measured = []
    for value, unit, per_seed in zip(table["measured"], table["unit"], table["per_seed"], strict=True):
        median = f"; median {value:.4g}" if ";" in per_seed and not math.isnan(value) else ""
        measured.append(f"{per_seed}{median}" + (f" [{unit}]" if unit else ""))
    table = table.assign(measured=measured).rename(columns={"over_seeds": "seeds"})
    return table[["claim", "quantity", "measured", "seeds", "criterion", "verdict", "evidence"]]


def introduction(scale: str, task: Task, seeds: list[int]) -> str:
    """What was run, and how to read the verdicts, in a few sentences."""
    return (
        f"Scale {scale}: {task.rows} x {task.columns} matrices of rank {task.rank}, mask probability "
        f"{task.mask_probability}; seeds {', '.join(map(str, seeds))}. {HOW_JUDGED} Criteria are in "
        "workflow/abrupt/claims, the same for every seed and scale. Seeds 0, 1 and 2 of the cpu scale, seed 3 with "
        "other settings, and seeds 0 to 4 of the smoke scale were seen before the measure of abruptness (claim 1) and "
        "the rules for runs that do not decide were written; seeds 10 to 14 are those that confirm. The criteria of "
        "claims 8 to 12, and what counts as well before the drop (claims 2 and 5), were written after one seed had "
        "been seen at the cpu scale."
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
    title = "Which claims held"
    tables = "<h2>What was measured</h2>".join(part.to_html(index=False) for part in (verdicts(table), readable(table)))
    head = f'<head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
    body = f"<body><h1>{title}</h1><p>{introduction}</p>{tables}</body>"
    return f'<!DOCTYPE html><html lang="en">{head}{body}</html>'
