"""A reader's guide to the figures: what each shows, what this run says, where it disagrees with the paper."""

import math
from typing import Any

import pandas as pd

from abrupt.claims.finding import HELD, NOT_HELD
from abrupt.claims.page import html_page
from abrupt.figures.observation import Observation

NOTHING = "nothing of what was claimed: see the next column"


def guide(
    catalogue: dict[str, dict[str, Any]], claims: pd.DataFrame, observations: dict[str, Observation]
) -> pd.DataFrame:
    """One row a figure of `catalogue` (workflow/figures.yaml): figure, paper, shows, in_this_run, disagrees.

    `claims` is the table of claims.csv, and a figure's findings are those that name it; `observations` are of some of
    the figures, at least of those that no claim names.
    """
    rows = []
    for figure, about in catalogue.items():
        found = claims[claims["figure"] == figure]
        seen = observations.get(figure, Observation(""))
        not_held = found["verdict"] == NOT_HELD
        rows.append(
            {
                "figure": figure,
                "paper": about["paper"],
                "shows": about["shows"],
                "in_this_run": _joined(seen.here, _sentence(found[~not_held])) or NOTHING,
                "disagrees": _joined(seen.disagrees, _sentence(found[not_held])),
            }
        )
    return pd.DataFrame(rows)


def _joined(*sentences: str) -> str:
    return "; ".join(filter(None, sentences))


def _sentence(found: pd.DataFrame) -> str:
    return "; ".join(_clause(finding) for finding in found.itertuples())


def _clause(finding) -> str:
    """'onset of the drop 3550 updates (claim 1: before step 50000)'."""
    value = finding.per_seed if math.isnan(finding.measured) else f"{finding.measured:.4g} {finding.unit}"
    if pd.isna(value):  # nothing was measured
        return f"{finding.quantity} (claim {finding.claim}: {finding.verdict})"
    criterion = finding.criterion if finding.verdict in (HELD, NOT_HELD) else finding.verdict
    return f"{finding.quantity}: {value} (claim {finding.claim}: {criterion})"


def guide_html(table: pd.DataFrame) -> str:
    """The guide as a page."""
    named = table.rename(
        columns={
            "paper": "in the paper",
            "in_this_run": "in this run (and what was claimed)",
            "disagrees": "claimed or reported by the paper, and not so here",
        }
    )
    return html_page("What each figure shows", named.to_html(index=False))
