import math

import cvxpy
import numpy as np
import pytest
import torch
from torch import nn

from abrupt.analyses import completion, token_intervention
from abrupt.analyses.nuclear_norm import complete, complete_all
from abrupt.task import Batch, Task, sample_batch

TASK = Task(rows=5, columns=6, rank=2, mask_probability=0.3, decimals=2, max_value=2)
MASK_ROW = 0


class Copying(nn.Module):
    """Predicts the value whose token stands at an entry, 0 for MASK."""

    def forward(self, tokens):
        return torch.where(tokens == 0, 0.0, (tokens - 1) / 100 - 2)


@pytest.fixture(scope="module")
def batch():
    return sample_batch(TASK, 4000, 0, "analysis")


@pytest.fixture(scope="module")
def copied(batch):
    return token_intervention.measure(Copying(), TASK, batch, [0.44, -0.24])


def test_table_has_a_row_for_mask_and_one_for_each_value(copied):
    assert math.isnan(copied["token_value"][0])
    assert copied["token_value"].tolist()[1:] == [0.44, -0.24]


@pytest.mark.parametrize(("row", "value"), [(MASK_ROW, 0.0), (1, 0.44), (2, -0.24)])
def test_copying_model_predicts_the_value_at_masked_entries(copied, row, value):
    assert copied["mean_prediction"][row] == pytest.approx(value, abs=1e-6)
    assert copied["mse_to_value"][row] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("row", "value"), [(MASK_ROW, 0.0), (1, 0.44), (2, -0.24)])
def test_error_of_copying_is_rank_over_nine_and_the_squared_value(copied, row, value):
    assert copied["mse_if_copying"][row] == pytest.approx(2 / 9 + value**2, rel=1e-12)


def test_error_to_the_truth_of_a_copying_model_is_that_of_copying(copied):
    # 36 000 masked entries, in 4000 independent matrices: 5 % is beyond sampling error.
    np.testing.assert_allclose(copied["mse_to_truth"], copied["mse_if_copying"], rtol=0.05)


def test_error_to_the_truth_by_hand():
    target = torch.tensor([[[0.5, -0.2, 0.1], [0.0, 0.3, 1.0]]])
    observed = torch.tensor([[[True, False, True], [False, True, True]]])
    tokens = torch.tensor([[251, 0, 211, 0, 231, 301]])
    table = token_intervention.measure(Copying(), Task(2, 3, 1, 0.3, 2, 2), Batch(tokens, target, observed), [1, -0.5])
    # Masked entries: -0.2 and 0.
    assert table["mse_to_truth"].tolist() == pytest.approx([0.02, (1.2**2 + 1) / 2, (0.3**2 + 0.5**2) / 2], rel=1e-5)


def test_only_masked_tokens_are_replaced(batch):
    seen = []

    class Recording(Copying):
        def forward(self, tokens):
            seen.append(tokens)
            return super().forward(tokens)

    token_intervention.measure(Recording(), TASK, batch, [0.44])
    expected = batch.tokens.clone()
    assert torch.equal(seen[0], expected)
    expected[expected == 0] = 245  # 1 + 100 * (0.44 + 2)
    assert torch.equal(seen[1], expected)


def test_value_outside_the_vocabulary_is_an_error(batch):
    with pytest.raises(ValueError, match=r"2\.5.*\[-2, 2\]"):
        token_intervention.measure(Copying(), TASK, batch, [2.5])


def test_errors_of_each_matrix_by_hand():
    target = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]]])
    observed = torch.tensor([[[True, False], [False, True]], [[True, True], [True, False]]])
    prediction = torch.tensor([[[1.0, 1.0], [3.0, 2.0]], [[1.0, 1.0], [1.0, -1.0]]])
    table = completion.per_matrix_errors(prediction, Batch(torch.zeros(2, 4), target, observed))
    assert table["matrix"].tolist() == [0, 1]
    assert table["mse_all"].tolist() == pytest.approx([10 / 4, 4 / 4])
    assert table["mse_masked"].tolist() == pytest.approx([5.0, 4.0])


def test_matrix_with_nothing_masked_has_no_masked_error():
    target = torch.ones(2, 3, 3)
    observed = torch.ones(2, 3, 3, dtype=torch.bool)
    observed[1, 0, 0] = False
    table = completion.per_matrix_errors(target + 1, Batch(torch.zeros(2, 9), target, observed))
    assert math.isnan(table["mse_masked"][0]) and table["mse_masked"][1] == pytest.approx(1)
    assert table["mse_all"].tolist() == pytest.approx([1, 1])


def test_nuclear_norms_of_known_matrices():
    # |diag| sums to 7; a b^T of rank 1 has |a| |b| = 5 * 13.
    prediction = torch.diag(torch.tensor([3.0, -4.0]))[None]
    truth = torch.outer(torch.tensor([3.0, 4.0]), torch.tensor([5.0, 12.0]))[None]
    batch = Batch(torch.zeros(1, 4), truth, torch.ones(1, 2, 2, dtype=torch.bool))
    table = completion.per_matrix_errors(prediction, batch)
    assert table["nuclear_norm"][0] == pytest.approx(7, rel=1e-5)
    assert table["nuclear_norm_truth"][0] == pytest.approx(65, rel=1e-5)


def test_copying_model_completes_nothing(batch):
    table = completion.measure(Copying(), TASK, batch)
    squared = torch.where(batch.observed, 0.0, batch.target) ** 2
    np.testing.assert_allclose(table["mse_all"], squared.mean((1, 2)), atol=1e-7)


def test_fully_observed_matrix_is_returned():
    matrix = np.random.default_rng(0).uniform(-2, 2, (4, 3))
    np.testing.assert_allclose(complete(matrix, np.ones((4, 3), bool)), matrix, atol=1e-6)


def test_matrix_with_nothing_observed_is_completed_by_zeros():
    np.testing.assert_allclose(complete(np.ones((3, 3)), np.zeros((3, 3), bool)), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("corner", "off_diagonal", "completed"), [(1, 1, 1.0), (1, 2, 1.0), (2, 1, 0.5), (-2, 1, -0.5)]
)
def test_last_entry_of_a_two_by_two_matrix(corner, off_diagonal, completed):
    # ||X||_*^2 = ||X||_F^2 + 2 |det X|: least at x = min(a, b^2 / a) in [[a, b], [b, x]] with a > 0, where
    # it may be flat, so that x is less exact than the norm.
    matrix = np.array([[corner, off_diagonal], [off_diagonal, 99.0]])
    found = complete(matrix, np.array([[True, True], [True, False]]))
    assert found[1, 1] == pytest.approx(completed, abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_semidefinite_programme(seed):
    rng = np.random.default_rng(seed)
    matrix, observed = rng.uniform(-1, 1, (3, 3)), rng.random((3, 3)) < 0.7
    found = complete(matrix, observed)
    # min (tr W1 + tr W2) / 2 over [[W1, X], [X^T, W2]] >= 0.
    block = cvxpy.Variable((6, 6), symmetric=True)
    constraints = [block >> 0, *(block[i, 3 + j] == matrix[i, j] for i, j in np.argwhere(observed))]
    optimum = cvxpy.Problem(cvxpy.Minimize(cvxpy.trace(block) / 2), constraints).solve(solver=cvxpy.CLARABEL)
    assert np.linalg.norm(found, "nuc") == pytest.approx(optimum, abs=1e-5)
    np.testing.assert_allclose(found[observed], matrix[observed], atol=1e-6)


def test_complete_all_completes_each_matrix_with_its_own_mask():
    rng = np.random.default_rng(3)
    matrices, observed = rng.uniform(-1, 1, (3, 3, 4)), rng.random((3, 3, 4)) < 0.7
    found = complete_all(matrices, observed)
    for i in range(3):
        np.testing.assert_allclose(found[i], complete(matrices[i], observed[i]), atol=1e-6)


def test_mean_error_at_the_paper_setting_is_the_reference_value():
    batch = sample_batch(Task(7, 7, 2, 0.3, 2, 10), 100, 0, "analysis")
    completed = complete_all(batch.target.double().numpy(), batch.observed.numpy())
    errors = completion.per_matrix_errors(torch.from_numpy(completed).float(), batch)["mse_all"]
    # 0.0113: 256 other matrices, by an ADMM solver.
    assert abs(errors.mean() - 0.0113) < 4 * errors.sem()
