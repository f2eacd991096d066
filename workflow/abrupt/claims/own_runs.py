"""Runs of their own: other shapes and matrices, and a decoder (claim 12), from the tables behind their figures."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from abrupt.claims.finding import Finding, near_one, onset
from abrupt.scores.drop import ABRUPT_SHARPNESS, Drop, detect_drop, find_copying
from abrupt.scores.heads import ATTENDED
from abrupt.task import Task

COPIED = 0.95  # accuracy at observed entries
IDENTITY = 0.5  # mean attention weight on the entry to predict


def drops(table: pd.DataFrame, task: Task) -> dict[int, dict[Any, Drop]]:
    """Seed -> member of the family, in order -> the drop of its curve. A family of one has no column `member`."""
    plateau, found = task.entry_variance, {}
    if "member" not in table:
        table = table.assign(member=0)
    for (seed, member), run in table.groupby(["seed", "member"]):
        found.setdefault(int(seed), {})[member] = detect_drop(run["step"], run["mse_masked"], plateau)
    return found


def missing(of_seed: dict[Any, Drop]) -> float:
    """How many members have no drop."""
    return float(sum(not drop.found for drop in of_seed.values()))


def own_runs(figures: dict[str, pd.DataFrame], tasks: dict[str, Task], results: str) -> Iterator[Finding]:
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
    yield from _decoder_attention(figures["fig12_gpt_attention"], results)


def _shapes(figures: dict[str, pd.DataFrame], tasks: dict[str, Task], results: str) -> Iterator[Finding]:
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


def plateau_level(curve: pd.DataFrame, drop: Drop) -> float:
    """Mean cross-entropy at observed entries over the second half of what is before the onset, over the entropy of the
    marginal law; nan without a drop."""
    late = curve["step"].between((drop.onset or math.nan) / 2, drop.onset or math.nan)
    return curve.loc[late, "cross_entropy_observed"].mean() / curve["marginal_entropy"].max()


def _decoder(table: pd.DataFrame, results: str) -> Iterator[Finding]:
    evidence = f"{results}/figures/fig11_gpt_loss.csv"
    curves = {int(seed): curve for seed, curve in table.groupby("seed")}
    found = {seed: find_copying(curve) for seed, curve in curves.items()}
    yield Finding(
        12,
        "fig11_gpt_loss",
        "onset of copying in the decoder",
        "updates",
        "found",
        evidence,
        {seed: onset(drop) for seed, drop in found.items()},
        lambda step: step >= 0,
        "no drop",
    )
    yield Finding(
        12,
        "fig11_gpt_loss",
        "sharpness: onset / duration of the decoder's drop",
        "ratio",
        f">= {ABRUPT_SHARPNESS:g}",
        evidence,
        {seed: drop.sharpness for seed, drop in found.items()},
        lambda sharpness: sharpness >= ABRUPT_SHARPNESS,
    )
    # Whether the level that the onset is measured against is that of the plateau.
    yield near_one(
        12,
        "fig11_gpt_loss",
        "cross-entropy at observed entries before the onset / entropy of the entries' frequencies",
        evidence,
        {seed: plateau_level(curve, found[seed]) for seed, curve in curves.items()},
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


def decoder_shares(table: pd.DataFrame) -> dict[str, float]:
    """The strongest head's mean attention weight, over the queries that predict X, on the entry to predict
    (`predicted`) and on SEP (`sep`), this one over that of uniform attention; `table` is of one layer and step, as in
    the figure."""
    entries = table["query"].max()
    uniform = (1 / (entries + table["query"])).mean()
    predicted, sep = (table[table["key"] == key] for key in (table["query"], entries + 1))
    strongest = [part.groupby("head")["attention"].mean().max() for part in (predicted, sep)]
    return {"predicted": strongest[0], "sep": strongest[1] / uniform}


def _decoder_attention(table: pd.DataFrame, results: str) -> Iterator[Finding]:
    layer, first, last = (table["layer"].max(), table["step"].min(), table["step"].max())
    of_layer = table[table["layer"] == layer]
    seed = int(table["seed"].iloc[0])
    evidence = f"{results}/figures/fig12_gpt_attention.csv"
    for quantity, unit, step, score, least in (
        ("mean weight on SEP / uniform attention, before copying", "ratio", first, "sep", ATTENDED),
        ("mean weight on the entry to predict (1: identity), last step", "weight", last, "predicted", IDENTITY),
    ):
        value = decoder_shares(of_layer[of_layer["step"] == step])[score]
        yield Finding(
            12,
            "fig12_gpt_attention",
            f"last layer of the decoder, strongest head, seed {seed} alone: {quantity}",
            unit,
            f">= {least:g}",
            evidence,
            {seed: value},
            lambda value, least=least: value >= least,
        )


def introduction_of_runs(scale: str, task: Task, seeds: list[int]) -> str:
    """What was run, and how to read the verdicts, in a few sentences."""
    return (
        f"Scale {scale}, seeds {', '.join(map(str, seeds))}: runs of their own, trained as the main run but for what "
        f"their figure is about. Models of other widths and depths have the main run's matrices, {task.rows} x "
        f"{task.columns} of rank {task.rank}; sizes, ranks and laws of the others' are in their captions. A part "
        "held if its criterion holds for every seed; the number is the median over seeds, with their range beside it. "
        "Criteria are in workflow/abrupt/claims/own_runs.py, the same for every seed and scale, and were written after "
        "one seed had been seen at the cpu scale."
    )
