"""The laws that the entries of U and V are drawn from, and what they make of X = U V^T. No PyTorch here."""

# Law -> variance of a factor's entry at scale 1: Unif[-scale, scale], N(0, scale^2), Laplace(0, scale).
FACTOR_VARIANCE = {"uniform": 1 / 3, "gaussian": 1.0, "laplace": 2.0}


def entry_variance(rank: int, factor_law: str, factor_scale: float) -> float:
    """E[x^2] of an entry of X, before rounding: rank times the squared variance of a factor's entry.

    It is the masked-entry MSE of predicting 0; rank / 9 for uniform factors at scale 1 (the paper's).
    """
    return rank * (FACTOR_VARIANCE[factor_law] * factor_scale**2) ** 2
