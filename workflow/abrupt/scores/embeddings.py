"""How much structure embeddings have (the claims of the paper's Figure 7), from the analyses' tables. No PyTorch."""

import numpy as np
import pandas as pd

COMPONENTS = (1, 2, 3)
PREDICTORS = {"magnitude": np.abs, "sign": np.sign, "value": np.asarray}


def r_squared(x: np.ndarray, y: np.ndarray) -> float:
    """Of the linear regression of one on the other: the squared correlation. nan if either is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def paired_norms(value: np.ndarray, norm: np.ndarray) -> np.ndarray:
    """The norms of the tokens of v and of -v, for every v > 0: (N, 2)."""
    by_value = dict(zip(value, norm, strict=True))
    return np.array([(norm, by_value[-value]) for value, norm in by_value.items() if value > 0])


def norm_symmetry(value: np.ndarray, norm: np.ndarray) -> float:
    """The correlation of the norms of the tokens of v and -v, over v > 0; nan if either is constant."""
    pairs = paired_norms(value, norm)
    return np.nan if np.ptp(pairs, axis=0).min() == 0 else float(np.corrcoef(pairs.T)[0, 1])


def norm_asymmetry(value: np.ndarray, norm: np.ndarray) -> float:
    """Mean |norm of v - norm of -v| over v > 0, as a share of the range of all norms; nan if they are constant."""
    return np.nan if np.ptp(norm) == 0 else float(np.abs(np.diff(paired_norms(value, norm))).mean() / np.ptp(norm))


def token_scores(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each seed and step of a table of abrupt.analyses.token_embeddings.

    Columns: norm_symmetry, norm_asymmetry; for each principal component k (1 to 3) share_pc<k>, its share of the
    variance, and r2_pc<k>_magnitude, r2_pc<k>_sign, r2_pc<k>_value, R^2 with |x|, sign(x) and x. Components are
    uncorrelated, so that R^2 of several of them is the sum of theirs.
    """
    rows = []
    for (seed, step), tokens in table.groupby(["seed", "step"]):
        value = tokens["value"].to_numpy()
        row = {"seed": seed, "step": step}
        row |= {score.__name__: score(value, tokens["norm"].to_numpy()) for score in (norm_symmetry, norm_asymmetry)}
        for number in COMPONENTS:
            component = tokens[f"pc{number}"].to_numpy()
            row[f"share_pc{number}"] = (component**2).sum() / (tokens["distance"] ** 2).sum()
            for name, predictor in PREDICTORS.items():
                row[f"r2_pc{number}_{name}"] = r_squared(component, predictor(value))
        rows.append(row)
    return pd.DataFrame(rows)


def position_scores(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each seed and step of a table of abrupt.analyses.position_embeddings.

    Columns: silhouette_row, silhouette_column (means over positions: 1 if rows, or columns, are tight
    clusters, near 0 if they are none), share_row, share_column, share_rest (of the variance: between
    rows, between columns, and what is neither; random embeddings have (rows - 1) / (rows * columns - 1)
    between rows).
    """
    rows = []
    for (seed, step), positions in table.groupby(["seed", "step"]):
        total = (positions["distance"] ** 2).sum()
        row = {"seed": seed, "step": step}
        row |= {name: positions[name].mean() for name in ("silhouette_row", "silhouette_column")}
        row |= {f"share_{name}": (positions[f"{name}_part"] ** 2).sum() / total for name in ("row", "column")}
        rows.append(row | {"share_rest": 1 - row["share_row"] - row["share_column"]})
    return pd.DataFrame(rows)
