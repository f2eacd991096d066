"""Embedding scores say how much structure the embeddings have (the claims of the paper's Figure 7).

They need the tables of the analyses, but not PyTorch.
"""

import numpy as np
import pandas as pd

COMPONENTS = (1, 2, 3)
PREDICTORS = {"magnitude": np.abs, "sign": np.sign, "value": np.asarray}


def r_squared(x: np.ndarray, y: np.ndarray) -> float:
    """Return R^2 of the linear regression of one variable on the other, which is their squared correlation.

    `x` and `y` are (N,). The result is nan if either is constant.
    """
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def paired_norms(value: np.ndarray, norm: np.ndarray) -> np.ndarray:
    """Return the norms of the tokens of v and of -v for every v > 0, (N, 2)."""
    by_value = dict(zip(value, norm, strict=True))
    return np.array([(norm, by_value[-value]) for value, norm in by_value.items() if value > 0])


def norm_symmetry(value: np.ndarray, norm: np.ndarray) -> float:
    """Return the correlation over v > 0 of the norms of the tokens of v and -v, or nan if either is constant."""
    pairs = paired_norms(value, norm)
    return np.nan if np.ptp(pairs, axis=0).min() == 0 else float(np.corrcoef(pairs.T)[0, 1])


def norm_asymmetry(value: np.ndarray, norm: np.ndarray) -> float:
    """Return the mean over v > 0 of |norm of v - norm of -v| as a share of the range of all norms.

    The result is nan if all norms are the same.
    """
    return np.nan if np.ptp(norm) == 0 else float(np.abs(np.diff(paired_norms(value, norm))).mean() / np.ptp(norm))


def token_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each seed and step of a table of abrupt.analyses.token_embeddings.

        norm_symmetry, norm_asymmetry  the functions of these names
        share_pc<k>                    the share of the variance on the principal component k (1 to 3)
        r2_pc<k>_magnitude             R^2 of the component k with |x|
        r2_pc<k>_sign                  R^2 of the component k with sign(x)
        r2_pc<k>_value                 R^2 of the component k with x

    Principal components are uncorrelated, so the R^2 of several of them is the sum of theirs.
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
    """Return one row for each seed and step of a table of abrupt.analyses.position_embeddings.

        silhouette_row, silhouette_column  means over positions: 1 if rows, or columns, are tight clusters, near 0 if
                                           they are not clusters
        share_row, share_column            the shares of the variance between rows and between columns
        share_rest                         the share of the variance that is neither

    Random embeddings have a share of (rows - 1) / (rows * columns - 1) between rows.
    """
    rows = []
    for (seed, step), positions in table.groupby(["seed", "step"]):
        total = (positions["distance"] ** 2).sum()
        row = {"seed": seed, "step": step}
        row |= {name: positions[name].mean() for name in ("silhouette_row", "silhouette_column")}
        row |= {f"share_{name}": (positions[f"{name}_part"] ** 2).sum() / total for name in ("row", "column")}
        rows.append(row | {"share_rest": 1 - row["share_row"] - row["share_column"]})
    return pd.DataFrame(rows)
