"""Classical matrix completion: nuclear-norm minimisation, alternating least squares, an oracle (paper, Figure 3).

All work on NumPy arrays of one shape, `matrices` (N, rows, columns) and `observed` (the same, bool), look at matrices
only where observed (but for the oracle), and return the completed matrices.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import count, repeat
from multiprocessing import get_context

import cvxpy
import numpy as np

from abrupt.errors import InputError

logger = logging.getLogger(__name__)

ALS_SWEEPS = 100  # for each ridge
ALS_TOLERANCE = 1e-6  # the largest change of an entry in the last sweep


class NuclearNorm:
    """The convex programme for matrices of one shape: compiled once, solved for one matrix after the other.

    With `regularised`, min (mean over observed entries of (Y - X)^2) + lambda ||Y||_*; otherwise
    min ||Y||_* subject to Y = X at observed entries.
    """

    def __init__(self, shape: tuple[int, int], regularised: bool):
        self.solution = cvxpy.Variable(shape)
        self.mask, self.values = cvxpy.Parameter(shape, nonneg=True), cvxpy.Parameter(shape)
        self.regularisation = cvxpy.Parameter(nonneg=True)
        norm = cvxpy.normNuc(self.solution)
        residual = cvxpy.multiply(self.mask, self.solution) - self.values
        if regularised:
            self.problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(residual) + self.regularisation * norm))
        else:
            self.problem = cvxpy.Problem(cvxpy.Minimize(norm), [residual == 0])

    def solve(self, matrix: np.ndarray, observed: np.ndarray, regularisation: float, number: int) -> np.ndarray:
        """The solution for the matrix `number`, with a warning if the solver reaches its looser tolerances alone.

        Raises InputError if it finds no optimum.
        """
        self.mask.value, self.values.value = observed.astype(float), np.where(observed, matrix, 0.0)
        self.regularisation.value = regularisation * observed.sum()  # the programme has the sum, not the mean
        try:
            self.problem.solve(solver=cvxpy.CLARABEL)
            outcome = self.problem.status
        except cvxpy.SolverError as error:
            outcome = str(error)
        if outcome == cvxpy.OPTIMAL_INACCURATE:
            logger.warning("nuclear-norm minimisation of matrix %d: the optimum is less exact than usual", number)
        elif outcome != cvxpy.OPTIMAL:
            raise InputError(
                f"nuclear-norm minimisation of matrix {number} (from 0), lambda {regularisation:g}, failed: {outcome}: "
                "leave out its shift or lambda (analyses.completion.shifts, analyses.baselines.regularisation), or "
                "draw other matrices by another analyses.matrices"
            )
        return self.solution.value


_compiled = cache(NuclearNorm)


def minimise_nuclear_norm(
    matrix: np.ndarray, observed: np.ndarray, regularisation: float = 0.0, number: int = 0
) -> np.ndarray:
    """One matrix (rows, columns): the solution of least nuclear norm that agrees with it where `observed`, or, if
    `regularisation` is positive, nearly agrees (see `NuclearNorm`). `number` is for messages alone."""
    return _compiled(matrix.shape, regularisation > 0).solve(matrix, observed, regularisation, number)


@contextmanager
def side_by_side(processes: int) -> Iterator:
    """A `map` that works in this many processes; results come in order and do not depend on the number."""
    if processes == 1:
        yield map
        return
    # Forked, because another start method would run the whole script again in each process.
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        yield lambda *arguments: pool.map(*arguments, chunksize=16)


def nuclear_norm(
    matrices: np.ndarray, observed: np.ndarray, regularisation: float = 0.0, parallel_map=map
) -> Iterable[np.ndarray]:
    """`minimise_nuclear_norm` of each matrix, one after the other as they get ready."""
    return parallel_map(minimise_nuclear_norm, matrices, observed, repeat(regularisation), count())


def alternating_least_squares(
    matrices: np.ndarray, observed: np.ndarray, rank: int, ridges: Sequence[float]
) -> np.ndarray:
    """Y = U V^T of the given rank by ridge regression of V on U and U on V in turn.

    It starts from the singular vectors of the matrices with zeros at masked entries, and minimises the squared
    error over observed entries + ridge (||U||^2 + ||V||^2) for each of `ridges` in turn, from where it was: a
    large ridge first keeps it out of poor local minima.
    """
    weights = observed.astype(float)
    left, singular, right = np.linalg.svd(weights * matrices)
    root = np.sqrt(singular[:, None, :rank])
    left, right = left[:, :, :rank] * root, right[:, :rank].swapaxes(1, 2) * root
    completed = left @ right.swapaxes(1, 2)
    for ridge in ridges:
        for _ in range(ALS_SWEEPS):
            left = _ridge_regression(weights, matrices, right, ridge)
            right = _ridge_regression(weights.swapaxes(1, 2), matrices.swapaxes(1, 2), left, ridge)
            before, completed = completed, left @ right.swapaxes(1, 2)
            if np.abs(completed - before).max() < ALS_TOLERANCE:
                break
    return completed


def _ridge_regression(weights: np.ndarray, matrices: np.ndarray, right: np.ndarray, ridge: float) -> np.ndarray:
    """U (N, rows, rank) of least sum of weights (X - U V^T)^2 + ridge ||U||^2."""
    gram = np.einsum("nij,njr,njs->nirs", weights, right, right, optimize=True) + ridge * np.eye(right.shape[2])
    return np.linalg.solve(gram, ((weights * matrices) @ right)[..., None])[..., 0]


def column_space_oracle(matrices: np.ndarray, observed: np.ndarray, rank: int, ridge: float) -> np.ndarray:
    """What somebody would complete who is told the column space, the first `rank` left singular vectors of the whole
    matrix: ridge regression of each column's observed entries on them. Without a ridge rounding decides wherever the
    observed rows of the vectors are nearly dependent."""
    basis = np.linalg.svd(matrices)[0][:, :, :rank]
    seen = observed.swapaxes(1, 2)[..., None] * basis[:, None]  # (N, columns, rows, rank)
    values = np.where(observed, matrices, 0.0).swapaxes(1, 2)[..., None]
    gram = seen.swapaxes(2, 3) @ seen + ridge * np.eye(rank)
    coefficients = np.linalg.solve(gram, seen.swapaxes(2, 3) @ values)[..., 0]
    return basis @ coefficients.swapaxes(1, 2)
