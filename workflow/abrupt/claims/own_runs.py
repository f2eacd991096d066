"""Runs of their own: other shapes and matrices, and a decoder (claim 12), from the tables behind their figures."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from abrupt.claims.finding import Finding, onset
from abrupt.drop import Drop, detect_drop, find_copying, plateau_mse_masked

COPIED = 0.95  # accuracy at observed entries


def drops(table: pd.DataFrame, task: dict[str, Any]) -> dict[int, dict[Any, Drop]]:
    """Seed -> member of the family, in order -> the drop of its curve. A family of one has no column `member`."""
    plateau, found = plateau_mse_masked(task), {}
    if "member" not in table:
        table = table.assign(member=0)
    for (seed, member), run in table.groupby(["seed", "member"]):
        found.setdefault(int(seed), {})[member] = detect_drop(run["step"], run["mse_masked"], plateau)
    return found


def missing(of_seed: dict[Any, Drop]) -> float:
    """How many members have no drop."""
    return float(sum(not drop.found for drop in of_seed.values()))


def own_runs(figures: dict[str, pd.DataFrame], tasks: dict[str, dict], results: str) -> Iterator[Finding]:
    """Every quantity of claim 12; `figures` are the tables behind the figures, `tasks` what they are of."""
    yield from _shapes(figures, tasks, results)
    for figure, quantity in (
        ("fig16_mixture", "sizes of the mixture without a drop"),
        ("fig17_larger", "larger sizes without a drop"),
        ("fig18_gaussian", "runs with Gaussian entries without a drop"),
    ):
        values = {seed: missing(members) for seed, members in drops(figures[figure], tasks[figure]).items()}
        evidence = f"{results}/figures/{figure}.csv"
        yield Finding(12, figure, quantity, "runs", "0", evidence, values, lambda count: count == 0)
    yield from _decoder(figures["fig11_gpt_loss"], results)


def _shapes(figures: dict[str, pd.DataFrame], tasks: dict[str, dict], results: str) -> Iterator[Finding]:
    def wide_alone(members: dict[Any, Drop]) -> float:
        """How many widths drop, 0 if the narrowest is among them."""
        return 0.0 if members[min(members)].found else len(members) - missing(members)

    widths = drops(figures["fig13_width"], tasks["fig13_width"])
    yield Finding(
        12,
        "fig13_width",
        "widths with a drop, and none in the narrowest model",
        "runs",
        ">= 1",
        f"{results}/figures/fig13_width.csv",
        {seed: wide_alone(members) for seed, members in widths.items()},
        lambda count: count >= 1,
    )

    def relative(members: dict[Any, Drop]) -> float:
        """0 if the first depth has no drop at all."""
        first, second = (onset(members[depth]) for depth in sorted(members)[:2])
        return 0 * second if math.isnan(first) else second / first

    depths = drops(figures["fig14_depth"], tasks["fig14_depth"])
    yield Finding(
        12,
        "fig14_depth",
        "onset with the second depth / with the first",
        "ratio",
        "< 1",
        f"{results}/figures/fig14_depth.csv",
        {seed: relative(members) for seed, members in depths.items()},
        lambda ratio: ratio < 1,
        "no drop",
    )


def _decoder(table: pd.DataFrame, results: str) -> Iterator[Finding]:
    evidence = f"{results}/figures/fig11_gpt_loss.csv"
    curves = {int(seed): curve for seed, curve in table.groupby("seed")}
    yield Finding(
        12,
        "fig11_gpt_loss",
        "onset of copying in the decoder",
        "updates",
        "found",
        evidence,
        {seed: onset(find_copying(curve)) for seed, curve in curves.items()},
        lambda step: step >= 0,
        "no drop",
    )
    yield Finding(
        12,
        "fig11_gpt_loss",
        "accuracy of copying observed entries, last step",
        "ratio",
        f">= {COPIED:g}",
        evidence,
        {seed: curve.sort_values("step")["accuracy_observed"].iloc[-1] for seed, curve in curves.items()},
        lambda accuracy: accuracy >= COPIED,
    )
