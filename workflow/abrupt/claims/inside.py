"""What is inside the model: embeddings (claim 8), linear probes (claim 9), the use of positions (claim 10)."""

import pandas as pd

from abrupt.claims.finding import Claim, Criterion, NotDecided, Part
from abrupt.claims.seed_run import SeedRun
from abrupt.scores.embeddings import position_scores, token_scores

CORRELATED = 0.9  # the norms of v and -v
SYMMETRIC = 0.1  # mean difference of the norms of v and -v over the range of all
EXPLAINED = 0.8  # R^2 of a principal component
CLUSTERED = 0.25  # mean silhouette
READABLE = 0.9  # MSE of a probe over that of predicting the mean
DESTROYED = 0.9  # masked-entry MSE over E[x^2]
UNHARMED = 0.5  # the same


def token_embeddings(score: str, quantity: str, unit: str, criterion: Criterion) -> Part:
    return Part(
        "fig07_embeddings",
        f"token embeddings: {quantity}",
        unit,
        "analyses/token_embeddings/seed*.csv",
        lambda run: token_scores(run.at_end("token_embeddings"))[score].iloc[0],
        criterion,
    )


def silhouette(run: SeedRun, lines: str) -> float:
    return position_scores(run.at_end("position_embeddings"))[f"silhouette_{lines}"].iloc[0]


EMBEDDINGS = Claim(
    8,
    "Token-embedding norms are symmetric in the sign of the value, their first two principal components are magnitude "
    "and sign; position embeddings cluster by column.",
    "Figure 7",
    (
        token_embeddings(
            "norm_symmetry", "correlation of the norms of v and -v", "correlation", Criterion(least=CORRELATED)
        ),
        token_embeddings(
            "r2_pc1_magnitude",
            "R^2 of the first principal component with the magnitude",
            "R^2",
            Criterion(least=EXPLAINED),
        ),
        token_embeddings(
            "r2_pc2_sign", "R^2 of the second principal component with the sign", "R^2", Criterion(least=EXPLAINED)
        ),
        token_embeddings(
            "norm_asymmetry",
            "mean absolute difference of the norms of v and -v / range of all norms",
            "ratio",
            Criterion(most=SYMMETRIC),
        ),
        Part(
            "fig10_position_progress",
            "position embeddings: mean silhouette of columns as clusters",
            "silhouette",
            "analyses/position_embeddings/seed*.csv",
            lambda run: silhouette(run, "column"),
            Criterion(least=CLUSTERED),
        ),
        Part(
            "fig10_position_progress",
            "the same, columns - rows",
            "silhouette",
            "analyses/position_embeddings/seed*.csv",
            lambda run: silhouette(run, "column") - silhouette(run, "row"),
            Criterion(least=0, strict=True),
        ),
    ),
)


def row_probes(run: SeedRun) -> pd.Series:
    """Relative MSE of the probes of an entry's masked row at the last step, with the layer as index."""
    probes = run.at_end("probes")
    chosen = probes[(probes["target"] == "masked_row") & (probes["entries"] == "all")].dropna(subset="layer")
    return chosen.set_index("layer")["relative_mse"]


def best_layer(run: SeedRun) -> float:
    """The layer with the best row probe over their number; NotDecided if the row can be read in none."""
    errors = row_probes(run)
    if errors.min() > READABLE:
        raise NotDecided("readable in no layer")
    return errors.idxmin() / errors.index.max()


PROBES = Claim(
    9,
    "Linear probes read an entry's row best in the later layers.",
    "Figure 6",
    (
        Part(
            "fig06_probes",
            "probe of the entry's row: best layer / number of layers",
            "ratio",
            "analyses/probes/seed*.csv",
            best_layer,
            Criterion(least=0.5, strict=True),
        ),
        Part(
            "fig06_probes",
            "probe of the entry's row: MSE in the best layer / MSE of predicting the mean",
            "ratio",
            "analyses/probes/seed*.csv",
            lambda run: row_probes(run).min(),
            Criterion(most=READABLE),
        ),
    ),
)


def permuted(kind: str, quantity: str, criterion: Criterion) -> Part:
    def measure(run: SeedRun) -> float:
        table = run.at_end("permuted_positions")
        return table.loc[table["kind"] == kind, "mse_masked"].mean() / run.plateau

    quantity = f"{quantity}: MSE at masked entries / E[x^2]"
    return Part("permuted_positions", quantity, "ratio", "analyses/permuted_positions/seed*.csv", measure, criterion)


POSITIONS = Claim(
    10,
    "With permuted position embeddings nothing is completed.",
    "the authors' code",
    (
        permuted("everywhere", "positions permuted", Criterion(least=DESTROYED)),
        permuted(
            "rows_and_columns", "whole rows and columns permuted, which must change nothing", Criterion(most=UNHARMED)
        ),
    ),
)
