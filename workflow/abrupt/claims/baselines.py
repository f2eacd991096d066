"""Against nuclear-norm minimisation of the same matrices: of the task (claim 4) and of others (claim 11)."""

import math
from collections.abc import Callable

import pandas as pd

from abrupt.claims.finding import Claim, Criterion, NotDecided, Part
from abrupt.claims.seed_run import SeedRun
from abrupt.task import rows_along

STANDARD_ERRORS = 2
CLOSE = 2  # MSE of the model over that of nuclear-norm minimisation
TABLES = "analyses/{completion,baselines}/seed*.csv"


def paired_difference(run: SeedRun, column: str) -> float:
    """Mean of (final model - nuclear-norm minimisation) over the same matrices, in standard errors."""
    difference = run.completion[column] - run.nuclear_norm[column]
    return difference.mean() / difference.sem() if difference.sem() else math.nan


def norm_beyond_least(run: SeedRun) -> float:
    """The model's mean nuclear norm above the minimiser's, over the truth's above it. nan if these two are one."""
    least, own = run.nuclear_norm["nuclear_norm"].mean(), run.completion["nuclear_norm"].mean()
    way = run.completion["nuclear_norm_truth"].mean() - least
    return (own - least) / way if way else math.nan


NUCLEAR_NORM = Claim(
    4,
    "The final model beats nuclear-norm minimisation, and its solutions have another nuclear norm: it does not "
    "implicitly minimise it.",
    "Figure 3, at the training mask probability",
    (
        Part(
            "fig03_nuclear_norm",
            "final MSE / MSE of nuclear-norm minimisation, all entries",
            "ratio",
            TABLES,
            lambda run: run.completion["mse_all"].mean() / run.nuclear_norm["mse_all"].mean(),
            Criterion(most=1, strict=True),
        ),
        Part(
            "fig03_nuclear_norm",
            "the same difference, model - minimiser, paired by matrix",
            "standard errors",
            TABLES,
            lambda run: paired_difference(run, "mse_all"),
            Criterion(most=-STANDARD_ERRORS, strict=True),
        ),
        Part(
            "fig03_nuclear_norm",
            "nuclear norm, absolute difference of model and minimiser, paired by matrix",
            "standard errors",
            TABLES,
            lambda run: abs(paired_difference(run, "nuclear_norm")),
            Criterion(least=STANDARD_ERRORS, strict=True),
        ),
        # Norms may differ by the noise of the predictions alone.
        Part(
            "fig03_nuclear_norm",
            "mean nuclear norm, (model - minimiser) / (truth - minimiser)",
            "ratio",
            TABLES,
            norm_beyond_least,
        ),
    ),
)


def shifted_ratios(run: SeedRun, axis: str) -> pd.DataFrame:
    """MSE of the model over that of the minimiser on the same matrices (`minimiser`), and over that of predicting 0 at
    masked entries and the truth elsewhere (`zero`), for each value of the axis that is not the task's."""
    run.found_drop()
    baselines = run.tables["baselines"]
    rows = [
        rows_along(table, run.task, axis)
        for table in (run.tables["completion"], baselines[baselines["method"] == "nuclear_norm"])
    ]
    model, minimiser = (part.groupby("value")["mse_all"].mean() for part in rows)
    tasks = {value: run.task.changed(axis, value) for value in model.index}
    zero = pd.Series({value: task.mask_probability * task.entry_variance for value, task in tasks.items()})
    ratios = pd.DataFrame({"minimiser": model / minimiser, "zero": model / zero})
    return ratios.drop(getattr(run.task, axis), errors="ignore")


def shifted(
    axis: str, values: str, criterion: Criterion, chosen: Callable[[pd.Index, int], pd.Series] | None = None
) -> tuple[Part, Part]:
    """The error on matrices of other values of an axis, those that `chosen` takes: over the minimiser's, where the
    value counts that speaks most against the criterion, and for comparison over that of predicting 0."""

    def ratios(run: SeedRun, to: str) -> pd.Series:
        table = shifted_ratios(run, axis)
        if chosen:
            table = table[chosen(table.index, getattr(run.task, axis))]
        if not len(table):
            raise NotDecided(f"{values}: no such value among those tried")
        return table[to]

    close = criterion.most < math.inf
    quantity = f"{values}: MSE of the model / nuclear-norm minimisation, {'largest' if close else 'least'}"
    against_zero = f"{values}: MSE of the model / predicting 0 at masked entries, largest"
    worst = pd.Series.max if close else pd.Series.min
    figure = "fig19_out_of_distribution"
    return (
        Part(figure, quantity, "ratio", TABLES, lambda run: worst(ratios(run, "minimiser")), criterion),
        Part(figure, against_zero, "ratio", TABLES, lambda run: ratios(run, "zero").max()),
    )


IS_CLOSE, IS_FAR = Criterion(most=CLOSE, note="close"), Criterion(least=CLOSE, strict=True, note="not close")

OUT_OF_DISTRIBUTION = Claim(
    11,
    "On matrices of another rank, or with another number of rows, the model stays close to nuclear-norm minimisation; "
    "with another number of columns it does not.",
    "Figure 19",
    (
        *shifted("rank", "another rank", IS_CLOSE),
        *shifted("rows", "fewer rows", IS_CLOSE, lambda rows, own: rows < own),
        *shifted("rows", "more rows (at positions without training)", IS_CLOSE, lambda rows, own: rows > own),
        *shifted("columns", "another number of columns", IS_FAR),
    ),
)
