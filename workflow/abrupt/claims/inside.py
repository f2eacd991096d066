"""What is inside the model: embeddings (claim 8), linear probes (claim 9), the use of positions (claim 10)."""

import math
from collections.abc import Iterator

import pandas as pd

from abrupt.claims.finding import Finding, SeedRun, measure
from abrupt.scores.embeddings import position_scores, token_scores

CORRELATED = 0.9  # the norms of v and -v
SYMMETRIC = 0.1  # mean difference of the norms of v and -v over the range of all
EXPLAINED = 0.8  # R^2 of a principal component
CLUSTERED = 0.25  # mean silhouette
READABLE = 0.9  # MSE of a probe over that of predicting the mean
DESTROYED = 0.9  # masked-entry MSE over E[x^2]
UNHARMED = 0.5  # the same


def embeddings(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    evidence = f"{results}/analyses/token_embeddings/seed*.csv"
    for score, quantity, least in (
        ("norm_symmetry", "token embeddings: correlation of the norms of v and -v", CORRELATED),
        ("r2_pc1_magnitude", "token embeddings: R^2 of the first principal component with the magnitude", EXPLAINED),
        ("r2_pc2_sign", "token embeddings: R^2 of the second principal component with the sign", EXPLAINED),
    ):
        values = measure(runs, lambda run, score=score: token_scores(run.at_end("token_embeddings"))[score].iloc[0])
        kind = "R^2" if score.startswith("r2") else "correlation"
        criterion = f">= {least:g}"
        yield Finding(
            8,
            "fig07_embeddings",
            quantity,
            kind,
            criterion,
            evidence,
            values,
            lambda value, least=least: value >= least,
        )
    yield Finding(
        8,
        "fig07_embeddings",
        "token embeddings: mean absolute difference of the norms of v and -v / range of all norms",
        "ratio",
        f"<= {SYMMETRIC:g}",
        evidence,
        measure(runs, lambda run: token_scores(run.at_end("token_embeddings"))["norm_asymmetry"].iloc[0]),
        lambda value: value <= SYMMETRIC,
    )
    evidence = f"{results}/analyses/position_embeddings/seed*.csv"

    def silhouette(run: SeedRun, part: str) -> float:
        return position_scores(run.at_end("position_embeddings"))[f"silhouette_{part}"].iloc[0]

    yield Finding(
        8,
        "fig10_position_progress",
        "position embeddings: mean silhouette of columns as clusters",
        "silhouette",
        f">= {CLUSTERED:g}",
        evidence,
        measure(runs, lambda run: silhouette(run, "column")),
        lambda value: value >= CLUSTERED,
    )
    yield Finding(
        8,
        "fig10_position_progress",
        "the same, columns - rows",
        "silhouette",
        "> 0",
        evidence,
        measure(runs, lambda run: silhouette(run, "column") - silhouette(run, "row")),
        lambda value: value > 0,
    )


def row_probes(run: SeedRun) -> pd.Series:
    """Relative MSE of the probes of an entry's masked row at the last step, with the layer as index."""
    probes = run.at_end("probes")
    chosen = probes[(probes["target"] == "masked_row") & (probes["entries"] == "all")].dropna(subset="layer")
    return chosen.set_index("layer")["relative_mse"]


def best_layer(run: SeedRun) -> float:
    """The layer with the best row probe over their number; nan if the row can be read in none."""
    errors = row_probes(run)
    return errors.idxmin() / errors.index.max() if errors.min() <= READABLE else math.nan


def probes(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    evidence = f"{results}/analyses/probes/seed*.csv"
    yield Finding(
        9,
        "fig06_probes",
        "probe of the entry's row: best layer / number of layers",
        "ratio",
        "> 0.5",
        evidence,
        measure(runs, best_layer),
        lambda share: share > 0.5,
        "readable in no layer",
    )
    yield Finding(
        9,
        "fig06_probes",
        "probe of the entry's row: MSE in the best layer / MSE of predicting the mean",
        "ratio",
        f"<= {READABLE:g}",
        evidence,
        measure(runs, lambda run: row_probes(run).min()),
        lambda ratio: ratio <= READABLE,
    )


def positions(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    evidence = f"{results}/analyses/permuted_positions/seed*.csv"

    def error(run: SeedRun, kind: str) -> float:
        permuted = run.at_end("permuted_positions")
        return permuted.loc[permuted["kind"] == kind, "mse_masked"].mean() / run.plateau

    yield Finding(
        10,
        "permuted_positions",
        "positions permuted: MSE at masked entries / E[x^2]",
        "ratio",
        f">= {DESTROYED:g}",
        evidence,
        measure(runs, lambda run: error(run, "everywhere")),
        lambda ratio: ratio >= DESTROYED,
    )
    yield Finding(
        10,
        "permuted_positions",
        "whole rows and columns permuted, which must change nothing: MSE at masked entries / E[x^2]",
        "ratio",
        f"<= {UNHARMED:g}",
        evidence,
        measure(runs, lambda run: error(run, "rows_and_columns")),
        lambda ratio: ratio <= UNHARMED,
    )
