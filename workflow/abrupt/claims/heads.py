"""What heads attend to (claim 5)."""

from collections.abc import Callable

import pandas as pd

from abrupt.claims.finding import Claim, Criterion, Part
from abrupt.claims.seed_run import SeedRun
from abrupt.scores.heads import ATTENDED, overall_scores

AVOIDED = 0.5  # times the share of uniform attention


def lifts(scores: pd.DataFrame, key_group: str) -> pd.Series:
    """Each head's share of attention on a key group, over that of uniform attention; all queries, random masks."""
    scores = overall_scores(scores)
    chosen = scores[scores["key_group"] == key_group]
    return chosen["share"] / chosen["uniform_share"]


def strongest(
    key_group: str, when: str, rows: Callable[[SeedRun, str], pd.DataFrame], criterion: Criterion | None
) -> Part:
    """The largest lift of a head on a key group, at the step that `rows` takes."""
    return Part(
        "ranked_heads",
        f"share on the {key_group.replace('_', ' ')} / uniform share, strongest head, {when}",
        "ratio",
        "attention/seed*/head_scores.csv",
        lambda run: lifts(rows(run, "head_scores"), key_group).max(),
        criterion,
    )


def weakest_on_masked(when: str, rows: Callable[[SeedRun, str], pd.DataFrame], criterion: Criterion) -> Part:
    return Part(
        "ranked_heads",
        f"share on masked entries / uniform share, weakest head, {when}",
        "ratio",
        "attention/seed*/head_scores.csv",
        lambda run: lifts(rows(run, "head_scores"), "masked").min(),
        criterion,
    )


ATTENTION = Claim(
    5,
    "After the drop heads attend to the same row, the same column and observed entries; before it they do not.",
    "Figure 4",
    (
        strongest("same_row", "last step", SeedRun.at_end, Criterion(least=ATTENDED)),
        strongest("same_column", "last step", SeedRun.at_end, Criterion(least=ATTENDED)),
        weakest_on_masked("last step", SeedRun.at_end, Criterion(most=AVOIDED)),
        strongest("same_row", "on the plateau", SeedRun.at_plateau, Criterion(most=ATTENDED, strict=True)),
        strongest("same_column", "on the plateau", SeedRun.at_plateau, Criterion(most=ATTENDED, strict=True)),
        weakest_on_masked("on the plateau", SeedRun.at_plateau, Criterion(least=AVOIDED, strict=True)),
        strongest("same_row", "last step up to the onset", SeedRun.at_onset, None),
        strongest("same_column", "last step up to the onset", SeedRun.at_onset, None),
    ),
)
