"""Classical matrix completion: nuclear-norm minimisation, alternating least squares and an oracle (paper, Figure 3).

Each method takes the NumPy arrays `matrices` and `observed` (bool), both (N, rows, columns), and returns the completed
matrices. Only the oracle looks at entries that are not observed.
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

ALS_SWEEPS = 100  # at most, for each ridge
ALS_TOLERANCE = 1e-6  # the sweeps with a ridge end once no entry changes by this much


class NuclearNorm:
    """The convex programme for matrices of one shape. It is compiled once and solved for one matrix after the other.

    regularised      minimise (mean of (Y - X)^2 over observed entries) + lambda ||Y||_*
    not regularised  minimise ||Y||_* subject to Y = X at observed entries
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
        """Return the solution for one matrix, (rows, columns). Messages call the matrix by its `number`.

        Raises InputError if the solver finds no optimum. Logs a warning if the optimum meets only the solver's looser
        tolerances.
        """
        self.mask.value, self.values.value = observed.astype(float), np.where(observed, matrix, 0.0)
        self.regularisation.value = (
            regularisation * observed.sum()
        )  # the programme sums the squared errors, without the mean
        try:
            self.problem.solve(solver=cvxpy.CLARABEL)
            outcome = self.problem.status
        except cvxpy.SolverError as error:
            outcome = str(error)
        if outcome == cvxpy.OPTIMAL_INACCURATE:
            logger.warning("nuclear-norm minimisation of matrix %d met only the solver's looser tolerances", number)
        elif outcome != cvxpy.OPTIMAL:
            raise InputError(
                f"nuclear-norm minimisation of matrix {number} (from 0) with lambda {regularisation:g} failed: "
                f"{outcome}: leave out its shift (analyses.completion.shifts) or lambda "
                "(analyses.baselines.regularisation), or change analyses.matrices to draw other matrices"
            )
        return self.solution.value


_compiled = cache(NuclearNorm)


def minimise_nuclear_norm(
    matrix: np.ndarray, observed: np.ndarray, regularisation: float = 0.0, number: int = 0
) -> np.ndarray:
    """Complete one matrix (rows, columns) by the matrix of least nuclear norm that agrees with it where `observed`.

    If `regularisation` is positive, the two agree only nearly (see `NuclearNorm`). Messages call the matrix by its
    `number`. Raises InputError if the solver finds no optimum.
    """
    return _compiled(matrix.shape, regularisation > 0).solve(matrix, observed, regularisation, number)


@contextmanager
def side_by_side(processes: int) -> Iterator:
    """Give a `map` that works in this many processes.

    Its results come in order and do not depend on the number of processes.
    """
    if processes == 1:
        yield map
        return
    # The processes are forked, because any other start method would run the whole script again in each of them.
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        yield lambda *arguments: pool.map(*arguments, chunksize=16)


def nuclear_norm(
    matrices: np.ndarray, observed: np.ndarray, regularisation: float = 0.0, parallel_map=map
) -> Iterable[np.ndarray]:
    """Complete each matrix by `minimise_nuclear_norm`. The results come one by one, in order."""
    return parallel_map(minimise_nuclear_norm, matrices, observed, repeat(regularisation), count())


def alternating_least_squares(
    matrices: np.ndarray, observed: np.ndarray, rank: int, ridges: Sequence[float]
) -> np.ndarray:
    """Fit Y = U V^T of the given rank, by ridge regressions for U with V fixed and for V with U fixed, in turn.

    They minimise the squared error over observed entries + ridge (||U||^2 + ||V||^2). The fit starts from the singular
    vectors of the matrices with zeros at masked entries. It takes the `ridges` one after the other and goes on from
    where it was: a large ridge first keeps it out of poor local minima.
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
    """Return the U (N, rows, rank) that minimises sum of weights (X - U V^T)^2 + ridge ||U||^2, for V = `right`."""
    gram = np.einsum("nij,njr,njs->nirs", weights, right, right, optimize=True) + ridge * np.eye(right.shape[2])
    return np.linalg.solve(gram, ((weights * matrices) @ right)[..., None])[..., 0]


def column_space_oracle(matrices: np.ndarray, observed: np.ndarray, rank: int, ridge: float) -> np.ndarray:
    """Complete each matrix as one could who knew its column space.

    The column space is given by the first `rank` left singular vectors of the whole matrix. A ridge regression on them
    fits the observed entries of each column. Without a ridge, the rounding of the entries would decide wherever the
    observed rows of these vectors are nearly dependent.
    """
    basis = np.linalg.svd(matrices)[0][:, :, :rank]
    seen = observed.swapaxes(1, 2)[..., None] * basis[:, None]  # (N, columns, rows, rank)
    values = np.where(observed, matrices, 0.0).swapaxes(1, 2)[..., None]
    gram = seen.swapaxes(2, 3) @ seen + ridge * np.eye(rank)
    coefficients = np.linalg.solve(gram, seen.swapaxes(2, 3) @ values)[..., 0]
    return basis @ coefficients.swapaxes(1, 2)
