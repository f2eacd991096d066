"""What heads attend to (claim 5)."""

from collections.abc import Iterator

import pandas as pd

from abrupt.claims.finding import FOR_COMPARISON, Finding, SeedRun, measure
from abrupt.scores.heads import ATTENDED, overall_scores

AVOIDED = 0.5  # times the share of uniform attention


def lift(scores: pd.DataFrame, key_group: str) -> pd.Series:
    """Each head's share of attention on a key group, over that of uniform attention; all queries, random masks."""
    scores = overall_scores(scores)
    chosen = scores[scores["key_group"] == key_group]
    return chosen["share"] / chosen["uniform_share"]


def attention(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    evidence = f"{results}/attention/seed*/head_scores.csv"
    for when, rows_of, after in (
        ("last step", SeedRun.at_end, True),
        ("on the plateau", SeedRun.at_plateau, False),
    ):
        for key_group in ("same_row", "same_column"):
            yield Finding(
                5,
                "ranked_heads",
                f"share on the {key_group.replace('_', ' ')} / uniform share, strongest head, {when}",
                "ratio",
                f"{'>=' if after else '<'} {ATTENDED}",
                evidence,
                measure(
                    runs, lambda run, rows_of=rows_of, group=key_group: lift(rows_of(run, "head_scores"), group).max()
                ),
                lambda ratio, after=after: (ratio >= ATTENDED) == after,
            )
        yield Finding(
            5,
            "ranked_heads",
            f"share on masked entries / uniform share, weakest head, {when}",
            "ratio",
            f"{'<=' if after else '>'} {AVOIDED}",
            evidence,
            measure(runs, lambda run, rows_of=rows_of: lift(rows_of(run, "head_scores"), "masked").min()),
            lambda ratio, after=after: (ratio <= AVOIDED) == after,
        )
    for key_group in ("same_row", "same_column"):
        yield Finding(
            5,
            "ranked_heads",
            f"share on the {key_group.replace('_', ' ')} / uniform share, strongest head, last step up to the onset",
            "ratio",
            "-",
            evidence,
            measure(runs, lambda run, group=key_group: lift(run.at_onset("head_scores"), group).max()),
            untested=FOR_COMPARISON,
        )
