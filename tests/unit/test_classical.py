import cvxpy
import numpy as np
import pytest

from abrupt.analyses.baselines import als_ridges, oracle_ridge
from abrupt.analyses.classical import (
    NuclearNorm,
    alternating_least_squares,
    column_space_oracle,
    minimise_nuclear_norm,
    nuclear_norm,
    side_by_side,
)
from abrupt.analyses.completion import held_out_in_vocabulary
from abrupt.errors import InputError
from abrupt.task import Task


def sampled(rank, mask_probability, matrices, size=7):
    task = Task(size, size, rank, mask_probability, 2, 10, "uniform", 1)
    _, batch = held_out_in_vocabulary(task, matrices, seed=0)
    return batch.target.double().numpy(), batch.observed.numpy()


def mse(completed, matrices):
    return ((completed - matrices) ** 2).mean((1, 2))


def test_fully_observed_matrix_is_returned():
    matrix = np.random.default_rng(0).uniform(-2, 2, (4, 3))
    np.testing.assert_allclose(minimise_nuclear_norm(matrix, np.ones((4, 3), bool)), matrix, atol=1e-6)


def test_matrix_with_nothing_observed_is_completed_by_zeros():
    np.testing.assert_allclose(minimise_nuclear_norm(np.ones((3, 3)), np.zeros((3, 3), bool)), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("corner", "off_diagonal", "completed"), [(1, 1, 1.0), (1, 2, 1.0), (2, 1, 0.5), (-2, 1, -0.5)]
)
def test_last_entry_of_a_two_by_two_matrix(corner, off_diagonal, completed):
    # ||X||_*^2 = ||X||_F^2 + 2 |det X|: least at x = min(a, b^2 / a) in [[a, b], [b, x]] with a > 0, where
    # it may be flat, so that x is less exact than the norm.
    matrix = np.array([[corner, off_diagonal], [off_diagonal, 99.0]])
    found = minimise_nuclear_norm(matrix, np.array([[True, True], [True, False]]))
    assert found[1, 1] == pytest.approx(completed, abs=1e-3)


def test_missing_entries_of_a_three_by_three_matrix_by_hand():
    # Of rank 1 with a corner of ones: ||X||_* >= <X, u v^T> = 3 for u = v = (1, 1, 1) / sqrt(3) holds with equality
    # for the matrix of ones, and only for it, whichever two entries of the last row and column are missing.
    matrix, observed = np.ones((3, 3)), np.ones((3, 3), bool)
    observed[2, 2] = observed[0, 2] = False
    np.testing.assert_allclose(minimise_nuclear_norm(matrix, observed), 1, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_semidefinite_programme(seed):
    rng = np.random.default_rng(seed)
    matrix, observed = rng.uniform(-1, 1, (3, 3)), rng.random((3, 3)) < 0.7
    found = minimise_nuclear_norm(matrix, observed)
    # min (tr W1 + tr W2) / 2 over [[W1, X], [X^T, W2]] >= 0.
    block = cvxpy.Variable((6, 6), symmetric=True)
    constraints = [block >> 0, *(block[i, 3 + j] == matrix[i, j] for i, j in np.argwhere(observed))]
    optimum = cvxpy.Problem(cvxpy.Minimize(cvxpy.trace(block) / 2), constraints).solve(solver=cvxpy.CLARABEL)
    assert np.linalg.norm(found, "nuc") == pytest.approx(optimum, abs=1e-5)
    np.testing.assert_allclose(found[observed], matrix[observed], atol=1e-6)


@pytest.mark.parametrize("strength", [0.01, 0.1])
def test_regularisation_shrinks_the_singular_values_of_a_fully_observed_matrix(strength):
    matrix = np.random.default_rng(1).uniform(-1, 1, (3, 4))
    left, singular, right = np.linalg.svd(matrix, full_matrices=False)
    # min (1 / 12) ||Y - X||^2 + lambda ||Y||_* takes 12 lambda / 2 off each.
    expected = left @ np.diag(np.maximum(singular - 6 * strength, 0)) @ right
    found = minimise_nuclear_norm(matrix, np.ones((3, 4), bool), strength)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_weak_regularisation_is_nearly_none():
    matrices, observed = sampled(1, 0.3, 3)
    for exact, nearly in zip(nuclear_norm(matrices, observed), nuclear_norm(matrices, observed, 1e-7), strict=True):
        assert np.linalg.norm(nearly, "nuc") == pytest.approx(np.linalg.norm(exact, "nuc"), abs=1e-4)


# MSE over all entries at 7 x 7 and rank 2 over the mask probability: means of 256 other matrices, by an ADMM solver.
REFERENCE = {0.1: 0.0011, 0.2: 0.0033, 0.3: 0.0113, 0.4: 0.0279, 0.5: 0.0533, 0.6: 0.0923}


@pytest.mark.parametrize("probability", REFERENCE)
def test_mean_error_at_the_paper_setting_is_the_reference_value(probability):
    matrices, observed = sampled(2, probability, 100)
    errors = mse(np.stack(list(nuclear_norm(matrices, observed))), matrices)
    # Both are samples, the reference of 2.56 times as many matrices.
    assert abs(errors.mean() - REFERENCE[probability]) < 3 * np.sqrt(errors.var(ddof=1) * (1 / 100 + 1 / 256))


def test_processes_side_by_side_give_the_same_solutions_in_order():
    matrices, observed = sampled(1, 0.3, 40, size=3)
    with side_by_side(2) as parallel_map:
        parallel = list(nuclear_norm(matrices, observed, parallel_map=parallel_map))
    for one, other in zip(parallel, nuclear_norm(matrices, observed), strict=True):
        np.testing.assert_array_equal(one, other)


def cornered(rank):
    """A matrix of this rank whose entries outside its first `rank` rows and columns are masked: all determined."""
    rng = np.random.default_rng(rank)
    matrix = rng.uniform(0.5, 1, (6, rank)) @ rng.uniform(0.5, 1, (rank, 6)) + np.eye(6, rank) @ np.eye(rank, 6)
    matrix = matrix[:, :rank] @ np.linalg.solve(matrix[:rank, :rank], matrix[:rank])  # of rank `rank` again
    observed = np.zeros((6, 6), bool)
    observed[:rank] = observed[:, :rank] = True
    return matrix[None], observed[None]


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("method", ["als", "oracle"])
def test_entries_that_the_rank_determines_are_found(method, rank):
    matrices, observed = cornered(rank)
    if method == "als":
        completed = alternating_least_squares(matrices, observed, rank, ridges=[1e-9])
    else:
        completed = column_space_oracle(matrices, observed, rank, ridge=1e-9)
    np.testing.assert_allclose(completed, matrices, atol=1e-3)


@pytest.mark.parametrize("method", ["als", "oracle"])
def test_column_of_which_nothing_is_observed_is_completed_by_zeros(method):
    matrices, observed = sampled(1, 0.3, 5)
    observed[:, :, 2] = False
    if method == "als":
        completed = alternating_least_squares(matrices, observed, 1, ridges=[1e-4])
    else:
        completed = column_space_oracle(matrices, observed, 1, ridge=1e-9)
    np.testing.assert_allclose(completed[:, :, 2], 0, atol=1e-12)
    assert not np.allclose(completed[:, :, 1], 0)


def test_least_squares_looks_at_observed_entries_alone():
    matrices, observed = sampled(1, 0.3, 5)
    hidden = np.where(observed, matrices, 99.0)
    np.testing.assert_array_equal(
        alternating_least_squares(matrices, observed, 1, [1e-4]), alternating_least_squares(hidden, observed, 1, [1e-4])
    )


@pytest.mark.parametrize(("rank", "mask_probability"), [(1, 0.2), (2, 0.3), (2, 0.5)])
def test_oracle_is_better_than_least_squares_which_are_better_than_nuclear_norm(rank, mask_probability):
    matrices, observed = sampled(rank, mask_probability, 200)
    task = Task(7, 7, rank, mask_probability, 2, 10, "uniform", 1)
    errors = [
        mse(column_space_oracle(matrices, observed, rank, oracle_ridge(task)), matrices).mean(),
        mse(alternating_least_squares(matrices, observed, rank, als_ridges(task)), matrices).mean(),
        mse(np.stack(list(nuclear_norm(matrices, observed))), matrices).mean(),
        mask_probability * task.entry_variance,
    ]
    assert errors == sorted(errors)


class Ended:
    """A problem whose solver ends like this."""

    def __init__(self, status, error=None):
        self.status, self.error = status, error

    def solve(self, solver):
        if self.error:
            raise self.error


def solved(problem):
    """What the programme gives for matrix 7 when its problem ends so, with a solution of ones."""
    programme = NuclearNorm((2, 2), regularised=False)
    programme.problem, programme.solution.value = problem, np.ones((2, 2))
    return programme.solve(np.zeros((2, 2)), np.ones((2, 2), bool), 0.0, number=7)


def test_less_exact_optimum_is_taken_with_a_warning_that_names_the_matrix(caplog):
    np.testing.assert_array_equal(solved(Ended(cvxpy.OPTIMAL_INACCURATE)), np.ones((2, 2)))
    assert "matrix 7" in caplog.text


@pytest.mark.parametrize("problem", [Ended("infeasible"), Ended(None, cvxpy.SolverError("no progress"))])
def test_matrix_without_an_optimum_is_one_line_that_names_it(problem):
    with pytest.raises(InputError, match=r"of matrix 7 .* failed: (infeasible|no progress): leave out"):
        solved(problem)


def test_matrices_are_numbered_in_their_order():
    matrices, observed = np.zeros((3, 2, 2)), np.ones((3, 2, 2), bool)
    given = nuclear_norm(matrices, observed, parallel_map=lambda _, *arguments: zip(*arguments, strict=False))
    assert [number for *_, number in given] == [0, 1, 2]
