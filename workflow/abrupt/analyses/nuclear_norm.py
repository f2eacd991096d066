"""Nuclear-norm minimisation, the classical baseline (paper, Figure 3)."""

import cvxpy
import numpy as np


def complete(matrix: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The matrix of least nuclear norm that agrees with `matrix` where `observed`: both (rows, columns).

    Raises RuntimeError if the solver fails.
    """
    solution = cvxpy.Variable(matrix.shape)
    rows, columns = np.nonzero(observed)
    constraints = [solution[rows, columns] == matrix[rows, columns]] if len(rows) else []
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(solution)), constraints)
    problem.solve(solver=cvxpy.CLARABEL)
    if problem.status != cvxpy.OPTIMAL:
        raise RuntimeError(f"nuclear-norm minimisation ended with status {problem.status}")
    return solution.value


def complete_all(matrices: np.ndarray, observed: np.ndarray, progress=lambda iterable: iterable) -> np.ndarray:
    """`complete` for each of (N, rows, columns)."""
    return np.stack([complete(*pair) for pair in progress(list(zip(matrices, observed, strict=True)))])
