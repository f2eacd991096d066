"""Against nuclear-norm minimisation of the same matrices: of the task (claim 4) and of others (claim 11)."""

import math
from collections.abc import Iterator

import pandas as pd

from abrupt.claims.finding import FOR_COMPARISON, Finding, SeedRun, measure
from abrupt.task import rows_along

STANDARD_ERRORS = 2
CLOSE = 2  # MSE of the model over that of nuclear-norm minimisation


def paired(run: SeedRun, column: str) -> tuple[float, float]:
    """Mean and standard error of (final model - nuclear-norm minimisation) over the same matrices."""
    difference = run.completion[column] - run.nuclear_norm[column]
    return float(difference.mean()), float(difference.sem())


def norm_beyond_least(run: SeedRun) -> float:
    """The model's mean nuclear norm above the minimiser's, over the truth's above it. nan if these two are one."""
    least, own = run.nuclear_norm["nuclear_norm"].mean(), run.completion["nuclear_norm"].mean()
    way = run.completion["nuclear_norm_truth"].mean() - least
    return (own - least) / way if way else math.nan


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
    # Norms may differ by the noise of the predictions alone.
    yield Finding(
        4,
        "fig03_nuclear_norm",
        "mean nuclear norm, (model - minimiser) / (truth - minimiser)",
        "ratio",
        "-",
        evidence,
        measure(runs, norm_beyond_least),
        untested=FOR_COMPARISON,
    )


def shifted_ratios(run: SeedRun, axis: str) -> pd.DataFrame:
    """MSE of the model over that of the minimiser on the same matrices (`minimiser`), and over that of predicting 0 at
    masked entries and the truth elsewhere (`zero`), for each value that is not the task's."""
    baselines = run.tables["baselines"]
    rows = [
        rows_along(table, run.task, axis)
        for table in (run.tables["completion"], baselines[baselines["method"] == "nuclear_norm"])
    ]
    model, minimiser = (part.groupby("value")["mse_all"].mean() for part in rows)
    tasks = {value: run.task.changed(axis, value) for value in model.index}
    zero = pd.Series({value: task.mask_probability * task.entry_variance for value, task in tasks.items()})
    return pd.DataFrame({"minimiser": model / minimiser, "zero": model / zero}).drop(
        getattr(run.task, axis), errors="ignore"
    )


def out_of_distribution(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    evidence = f"{results}/analyses/completion/seed*.csv, baselines/seed*.csv"
    for axis, fewer, quantity in (
        ("rank", None, "another rank"),
        ("rows", True, "fewer rows"),
        ("rows", False, "more rows (at positions without training)"),
        ("columns", None, "another number of columns"),
    ):

        def ratios(run: SeedRun, to: str, axis=axis, fewer=fewer) -> pd.Series:
            of_axis = shifted_ratios(run, axis)[to]
            return of_axis if fewer is None else of_axis[(of_axis.index < getattr(run.task, axis)) == fewer]

        close = axis != "columns"
        which = "largest" if close else "least"
        values = measure(
            runs,
            lambda run, ratios=ratios, extreme="max" if close else "min": ratios(run, "minimiser").agg(extreme),
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
        yield Finding(
            11,
            "fig19_out_of_distribution",
            f"{quantity}: MSE of the model / predicting 0 at masked entries, largest",
            "ratio",
            "-",
            evidence,
            measure(runs, lambda run, ratios=ratios: ratios(run, "zero").max()),
            untested=FOR_COMPARISON,
        )
