"""Against nuclear-norm minimisation of the same matrices: of the task (claim 4) and of others (claim 11)."""

import math
from collections.abc import Iterator

import pandas as pd

from abrupt.claims.finding import Finding, SeedRun, measure
from abrupt.shifts import along

STANDARD_ERRORS = 2
CLOSE = 2  # MSE of the model over that of nuclear-norm minimisation


def paired(run: SeedRun, column: str) -> tuple[float, float]:
    """Mean and standard error of (final model - nuclear-norm minimisation) over the same matrices."""
    difference = run.completion[column] - run.nuclear_norm[column]
    return float(difference.mean()), float(difference.sem())


def nuclear_norm(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    evidence = f"{results}/analyses/completion/seed*.csv, baselines/seed*.csv"
    yield Finding(
        4,
        "fig03_nuclear_norm",
        "final MSE / MSE of nuclear-norm minimisation, all entries",
        "ratio",
        "< 1",
        evidence,
        measure(runs, lambda run: run.completion["mse_all"].mean() / run.nuclear_norm["mse_all"].mean()),
        lambda ratio: ratio < 1,
    )

    def standard_errors(run: SeedRun, column: str) -> float:
        mean, error = paired(run, column)
        return mean / error if error else math.nan

    yield Finding(
        4,
        "fig03_nuclear_norm",
        "the same difference, model - minimiser, paired by matrix",
        "standard errors",
        f"< -{STANDARD_ERRORS}",
        evidence,
        measure(runs, lambda run: standard_errors(run, "mse_all")),
        lambda z: z < -STANDARD_ERRORS,
    )
    yield Finding(
        4,
        "fig03_nuclear_norm",
        "nuclear norm, model - minimiser, paired by matrix",
        "standard errors",
        f"beyond +-{STANDARD_ERRORS}",
        evidence,
        measure(runs, lambda run: standard_errors(run, "nuclear_norm")),
        lambda z: abs(z) > STANDARD_ERRORS,
    )


def shifted_ratios(run: SeedRun, axis: str) -> pd.Series:
    """MSE of the model over that of the minimiser on the same matrices, for each value that is not the task's."""
    means = []
    for name in ("completion", "baselines"):
        rows = along(run.tables[name], run.task, axis)
        if name == "baselines":
            rows = rows[rows["method"] == "nuclear_norm"]
        means.append(rows.groupby("value")["mse_all"].mean())
    return (means[0] / means[1]).drop(run.task[axis], errors="ignore")


def out_of_distribution(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    evidence = f"{results}/analyses/completion/seed*.csv, baselines/seed*.csv"
    for axis, fewer, quantity in (
        ("rank", None, "another rank"),
        ("rows", True, "fewer rows"),
        ("rows", False, "more rows (at positions without training)"),
        ("columns", None, "another number of columns"),
    ):

        def ratios(run: SeedRun, axis=axis, fewer=fewer) -> pd.Series:
            of_axis = shifted_ratios(run, axis)
            return of_axis if fewer is None else of_axis[(of_axis.index < run.task[axis]) == fewer]

        close = axis != "columns"
        which = "largest" if close else "least"
        values = measure(
            runs, lambda run, ratios=ratios, close=close: ratios(run).max() if close else ratios(run).min()
        )
        yield Finding(
            11,
            "fig19_out_of_distribution",
            f"{quantity}: MSE of the model / nuclear-norm minimisation, {which}",
            "ratio",
            f"<= {CLOSE} (close)" if close else f"> {CLOSE} (not close)",
            evidence,
            values,
            (lambda ratio: ratio <= CLOSE) if close else (lambda ratio: ratio > CLOSE),
        )
