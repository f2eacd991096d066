"""The loss curve: plateau and drop (claim 1), copying (claim 2), the final error (claim 3)."""

import pandas as pd

from abrupt.claims.finding import Claim, Criterion, NotDecided, Part, Value, near_one
from abrupt.claims.seed_run import PAPER_STEPS, SeedRun
from abrupt.scores.drop import ABRUPT_FIRST_FALL

COPYING_TOLERANCE = 0.05  # mean squared deviation from copying, as a share of E[x^2]
PLATEAU_TOLERANCE = 0.05  # of its level, half of what the onset allows
FINAL_SHARE = 0.06  # the paper's 4e-3 over its plateau, 0.3 * 2/9
PAPER_FINAL_MSE = 5e-3  # "about 4e-3"

TRAINING = "pretrain/seed*/training.csv"
INTERVENTION = "analyses/token_intervention/seed*.csv"
COMPLETION = "analyses/completion/seed*.csv"


def completion_time(run: SeedRun) -> float:
    """Steps from the onset to the completion, over the length of the plateau."""
    drop = run.found_drop()
    if not drop.onset:
        raise NotDecided("no plateau")
    return (drop.completion - drop.onset) / drop.onset


def rests(run: SeedRun) -> Value:
    """How many rests ended, and at which levels they were."""
    levels = [f"{rest.level / run.plateau:.2g}" for rest in run.found_drop().rests if rest.ended]
    return Value(len(levels), len(levels), f"at {', '.join(levels)} of the plateau's level" if levels else "")


PLATEAU_AND_DROP = Claim(
    1,
    "The loss sits on a plateau, then drops suddenly, at constant hyper-parameters.",
    "Figures 1 and 2",
    (
        Part(
            "fig02_loss",
            "onset of the drop",
            "updates",
            TRAINING,
            lambda run: run.onset,
            Criterion(most=PAPER_STEPS, strict=True, note="the length of the paper's run"),
        ),
        Part(
            "fig02_loss",
            "length of the first fall (onset to half the plateau's level) / length of the plateau",
            "ratio",
            TRAINING,
            lambda run: run.found_drop().first_fall,
            Criterion(most=ABRUPT_FIRST_FALL),
        ),
        Part(
            "fig02_loss",
            "time from the onset to 90 % of the way to the final error / length of the plateau",
            "ratio",
            TRAINING,
            completion_time,
        ),
        Part("fig02_loss", "rests on the way down", "rests", TRAINING, rests),
    ),
)


def low_rank_rows(run: SeedRun) -> pd.DataFrame:
    rows = run.at_plateau("token_intervention")
    return rows[rows["inputs"] == "low_rank"]


def error_to_zero(run: SeedRun) -> float:
    """With the MASK token in place."""
    rows = low_rank_rows(run)
    return rows.loc[rows["token_value"].isna(), "mse_to_value"].item() / run.plateau


def error_to_token_value(run: SeedRun) -> float:
    """With MASK replaced by the token of a value, for the value that is predicted worst."""
    return low_rank_rows(run).dropna(subset="token_value")["mse_to_value"].max() / run.plateau


def error_to_truth(run: SeedRun) -> float:
    """With MASK replaced by the token of a value, over the error of copying that value; the ratio farthest from 1."""
    rows = low_rank_rows(run).dropna(subset="token_value")
    ratio = rows["mse_to_truth"] / rows["mse_if_copying"]
    return ratio[(ratio - 1).abs().idxmax()]


COPYING = Claim(
    2,
    "On the plateau the model copies: observed entries are reproduced, masked ones predicted as the value that stands "
    "for MASK (0).",
    "Table 1",
    (
        Part(
            "fig02_loss",
            "MSE at observed entries, late plateau / E[x^2]",
            "ratio",
            TRAINING,
            lambda run: run.late_plateau["mse_observed"] / run.plateau,
            Criterion(most=COPYING_TOLERANCE),
        ),
        Part(
            "fig02_loss",
            "MSE at masked entries, late plateau / E[x^2]",
            "ratio",
            TRAINING,
            lambda run: run.late_plateau["mse_masked"] / run.plateau,
            near_one(PLATEAU_TOLERANCE),
        ),
        Part(
            "table1_token_intervention",
            "MSE of masked predictions to 0, on the plateau / E[x^2]",
            "ratio",
            INTERVENTION,
            error_to_zero,
            Criterion(most=COPYING_TOLERANCE),
        ),
        Part(
            "table1_token_intervention",
            "MASK replaced by value v: MSE of masked predictions to v / E[x^2], worst v",
            "ratio",
            INTERVENTION,
            error_to_token_value,
            Criterion(most=COPYING_TOLERANCE),
        ),
        Part(
            "table1_token_intervention",
            "MASK replaced by value v: MSE of masked predictions to the truth / (E[x^2] + v^2), worst v",
            "ratio",
            INTERVENTION,
            error_to_truth,
            near_one(),
        ),
    ),
)

FINAL_ERROR = Claim(
    3,
    "In the end matrices are completed with low error (about 4e-3 over all entries).",
    "final loss, about 4e-3",
    (
        Part(
            "fig02_loss",
            "final MSE over all entries",
            "entry value squared",
            COMPLETION,
            lambda run: run.completion["mse_all"].mean(),
            Criterion(most=PAPER_FINAL_MSE, note="paper scale"),
            only_at="paper",
        ),
        Part(
            "fig02_loss",
            "final MSE / plateau MSE (mask probability * E[x^2]), all entries",
            "ratio",
            COMPLETION,
            lambda run: run.completion["mse_all"].mean() / run.plateau_all,
            Criterion(most=FINAL_SHARE, note="the paper's"),
        ),
    ),
)
