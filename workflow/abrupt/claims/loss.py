"""The loss curve: plateau and drop (claim 1), copying (claim 2), the final error (claim 3)."""

from collections.abc import Iterator

import pandas as pd

from abrupt.claims.finding import Finding, SeedRun, measure, near_one
from abrupt.scores.drop import ABRUPT_SHARPNESS

COPYING_TOLERANCE = 0.05  # mean squared deviation from copying, as a share of E[x^2]
PLATEAU_TOLERANCE = 0.05  # of its level, half of what the onset allows
FINAL_SHARE = 0.06  # the paper's 4e-3 over its plateau, 0.3 * 2/9
PAPER_FINAL_MSE = 5e-3  # "about 4e-3"


def plateau_and_drop(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    training = f"{results}/pretrain/seed*/training.csv"
    last = next(iter(runs.values())).drop.last_step
    yield Finding(
        1,
        "fig02_loss",
        "onset of the drop",
        "updates",
        f"before step {last}",
        training,
        measure(runs, lambda run: run.onset),
        lambda onset: onset < last,
        "no drop",
    )
    yield Finding(
        1,
        "fig02_loss",
        "sharpness: onset / duration of the drop",
        "ratio",
        f">= {ABRUPT_SHARPNESS:g}",
        training,
        measure(runs, lambda run: run.drop.sharpness),
        lambda sharpness: sharpness >= ABRUPT_SHARPNESS,
    )


def copying(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    training = f"{results}/pretrain/seed*/training.csv"
    yield Finding(
        2,
        "fig02_loss",
        "MSE at observed entries, late plateau / E[x^2]",
        "ratio",
        f"<= {COPYING_TOLERANCE:g}",
        training,
        measure(runs, lambda run: run.late_plateau["mse_observed"] / run.plateau),
        lambda ratio: ratio <= COPYING_TOLERANCE,
    )
    yield near_one(
        2,
        "fig02_loss",
        "MSE at masked entries, late plateau / E[x^2]",
        training,
        measure(runs, lambda run: run.late_plateau["mse_masked"] / run.plateau),
        PLATEAU_TOLERANCE,
    )
    intervention = f"{results}/analyses/token_intervention/seed*.csv"

    def of_mask(run: SeedRun) -> float:
        rows = run.at_plateau("token_intervention").query("inputs == 'low_rank'")
        return rows.loc[rows["token_value"].isna(), "mse_to_value"].item() / run.plateau

    yield Finding(
        2,
        "table1_token_intervention",
        "MSE of masked predictions to 0, on the plateau / E[x^2]",
        "ratio",
        f"<= {COPYING_TOLERANCE:g}",
        intervention,
        measure(runs, of_mask),
        lambda ratio: ratio <= COPYING_TOLERANCE,
    )

    def replaced(run: SeedRun) -> pd.DataFrame:
        rows = run.at_plateau("token_intervention").dropna(subset="token_value")
        return rows[rows["inputs"] == "low_rank"]

    yield Finding(
        2,
        "table1_token_intervention",
        "MASK replaced by value v: MSE of masked predictions to v / E[x^2], worst v",
        "ratio",
        f"<= {COPYING_TOLERANCE:g}",
        intervention,
        measure(runs, lambda run: replaced(run)["mse_to_value"].max() / run.plateau),
        lambda ratio: ratio <= COPYING_TOLERANCE,
    )

    def worst_ratio(run: SeedRun) -> float:
        ratio = replaced(run)["mse_to_truth"] / replaced(run)["mse_if_copying"]
        return ratio[(ratio - 1).abs().idxmax()]

    yield near_one(
        2,
        "table1_token_intervention",
        "MASK replaced by value v: MSE of masked predictions to the truth / (E[x^2] + v^2), worst v",
        intervention,
        measure(runs, worst_ratio),
    )


def final_error(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    completion = f"{results}/analyses/completion/seed*.csv"
    final = measure(runs, lambda run: run.completion["mse_all"].mean())
    yield Finding(
        3,
        "fig02_loss",
        "final MSE over all entries",
        "entry value squared",
        f"<= {PAPER_FINAL_MSE:g} (paper scale)",
        completion,
        final,
        (lambda mse: mse <= PAPER_FINAL_MSE) if scale == "paper" else None,
    )
    yield Finding(
        3,
        "fig02_loss",
        "final MSE / plateau MSE (mask probability * E[x^2]), all entries",
        "ratio",
        f"<= {FINAL_SHARE:g}, the paper's",
        completion,
        {seed: mse / runs[seed].plateau_all for seed, mse in final.items()},
        lambda ratio: ratio <= FINAL_SHARE,
    )
