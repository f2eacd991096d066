import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from abrupt.analyses import baselines, completion, held_out, token_intervention
from abrupt.errors import InputError
from abrupt.sampling import Batch, make_generator, sample_batch, sample_matrices
from abrupt.task import TASK_COLUMNS, Task

TASK = Task(
    rows=5, columns=6, rank=2, mask_probability=0.3, decimals=2, max_value=2, factor_law="uniform", factor_scale=1
)
MASK_ROW = 0


class Copying(nn.Module):
    """Predicts the value whose token stands at an entry, 0 for MASK."""

    device = "cpu"

    def forward(self, tokens):
        return torch.where(tokens == 0, 0.0, (tokens - 1) / 100 - 2)


@pytest.fixture(scope="module")
def batch():
    return sample_batch(TASK, 4000, 0, "analysis")


@pytest.fixture(scope="module")
def copied(batch):
    return token_intervention.intervene(Copying(), TASK, batch, [0.44, -0.24], TASK.entry_variance)


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
    table = token_intervention.intervene(
        Copying(), Task(2, 3, 1, 0.3, 2, 2, "uniform", 1), Batch(tokens, target, observed), [1, -0.5], 1 / 9
    )
    # Masked entries: -0.2 and 0.
    assert table["mse_to_truth"].tolist() == pytest.approx([0.02, (1.2**2 + 1) / 2, (0.3**2 + 0.5**2) / 2], rel=1e-5)


def test_only_masked_tokens_are_replaced(batch):
    seen = []

    class Recording(Copying):
        def forward(self, tokens):
            seen.append(tokens)
            return super().forward(tokens)

    token_intervention.intervene(Recording(), TASK, batch, [0.44], 0.0)
    expected = batch.tokens.clone()
    assert torch.equal(seen[0], expected)
    expected[expected == 0] = 245  # 1 + 100 * (0.44 + 2)
    assert torch.equal(seen[1], expected)


def test_value_outside_the_vocabulary_is_an_error(batch):
    with pytest.raises(InputError, match=r"2\.5.*\[-2, 2\]"):
        token_intervention.intervene(Copying(), TASK, batch, [2.5], 0.0)


def test_errors_of_each_matrix_by_hand():
    target = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]]])
    observed = torch.tensor([[[True, False], [False, True]], [[True, True], [True, False]]])
    prediction = torch.tensor([[[1.0, 1.0], [3.0, 2.0]], [[1.0, 1.0], [1.0, -1.0]]])
    table = completion.per_matrix_errors(prediction, Batch(torch.zeros(2, 4), target, observed))
    assert table["mse_all"].tolist() == pytest.approx([10 / 4, 4 / 4])
    assert table["mse_observed"].tolist() == pytest.approx([0.0, 0.0])
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
    table = completion.complete(Copying(), batch)
    squared = torch.where(batch.observed, 0.0, batch.target) ** 2
    np.testing.assert_allclose(table["mse_all"], squared.mean((1, 2)), atol=1e-7)


NO_SHIFTS = {"mask_probability": [], "rank": [], "rows": [], "columns": [], "factor_scale": {}}


def test_completion_is_of_the_last_model_on_the_task_and_each_variant():
    shifts = NO_SHIFTS | {"mask_probability": [0.3, 0.6], "rows": [3], "factor_scale": {"gaussian": [0.2]}}
    models = {100: Copying(), 0: None}
    table = completion.measure(models, TASK, seed=0, matrices=50, shifts=shifts)
    assert (table["step"] == 100).all()
    tasks = table[list(TASK_COLUMNS)].drop_duplicates().to_numpy().tolist()
    assert tasks == [
        [0.3, 2, 5, 6, "uniform", 1],
        [0.6, 2, 5, 6, "uniform", 1],
        [0.3, 2, 3, 6, "uniform", 1],
        [0.3, 2, 5, 6, "gaussian", 0.2],
    ]
    assert table.groupby(list(TASK_COLUMNS))["matrix"].apply(list).map(lambda numbers: numbers == list(range(50))).all()


def test_held_out_matrices_of_a_bounded_task_are_those_of_every_analysis():
    numbers, batch = completion.held_out_in_vocabulary(TASK, 30, seed=3)
    assert numbers.tolist() == list(range(30))
    for ours, theirs in zip(batch, held_out(TASK, 30, 3), strict=True):
        assert torch.equal(ours, theirs)


def test_matrices_of_other_mask_probabilities_are_the_same_with_nested_masks():
    _, few = completion.held_out_in_vocabulary(replace(TASK, mask_probability=0.1), 30, seed=0)
    _, many = completion.held_out_in_vocabulary(replace(TASK, mask_probability=0.5), 30, seed=0)
    assert torch.equal(few.target, many.target)
    assert (few.observed | ~many.observed).all() and (few.observed & ~many.observed).any()


def test_matrices_with_an_entry_that_has_no_token_are_left_out():
    wide = replace(TASK, factor_law="gaussian")  # |x| <= 2 fails for most matrices
    numbers, batch = completion.held_out_in_vocabulary(wide, 200, seed=0)
    matrices = sample_matrices(wide, 200, make_generator(0, "analysis"))
    fitting = [number for number in range(200) if matrices[number].abs().max() <= 2]
    assert 0 < len(fitting) < 200 and numbers.tolist() == fitting
    assert torch.equal(batch.target, matrices[fitting])


def test_baselines_complete_the_matrices_that_the_model_is_given():
    shifts = NO_SHIFTS | {"rank": [1]}
    model = completion.measure({0: Copying()}, TASK, 0, 20, shifts)
    table = baselines.measure(TASK, 0, 20, shifts, regularisation=[0.01], processes=1)
    methods = ["nuclear_norm", "alternating_least_squares", "column_space_oracle"]
    for rank, at_rank in table.groupby("rank"):
        regularised = at_rank["method"] == "regularised_nuclear_norm"
        assert sorted(at_rank["method"].unique()) == sorted([*methods, *["regularised_nuclear_norm"] * (rank == 2)])
        assert at_rank["regularisation"].isna().equals(~regularised)
        for _, completed in at_rank.groupby("method"):
            pair = completed.merge(model, on=[*TASK_COLUMNS, "matrix"])
            assert len(pair) == 20 and (pair["nuclear_norm_truth_x"] == pair["nuclear_norm_truth_y"]).all()


def test_full_rank_matrices_are_uniform_and_have_no_low_rank():
    batch = token_intervention.sample_full_rank(TASK, 2000, seed=0)
    # 60 000 entries: the standard error of x^2 is 0.4 % of 1 / 3.
    assert batch.target.square().mean().item() == pytest.approx(1 / 3, rel=0.02)
    assert batch.target.abs().max().item() == 1
    singular = torch.linalg.svdvals(batch.target)
    assert (singular[:, 2] > 0.05).all()
    assert torch.equal(batch.tokens == 0, ~batch.observed.flatten(1))
    assert batch.observed.float().mean().item() == pytest.approx(0.7, abs=0.01)


def test_intervention_is_measured_on_both_kinds_of_matrices_at_every_step():
    table = token_intervention.measure({0: Copying(), 10: Copying()}, TASK, 0, 400, values=[0.44])
    assert table.groupby(["inputs", "step"]).size().to_dict() == {
        (inputs, step): 2 for inputs in ("low_rank", "full_rank") for step in (0, 10)
    }
    assert table["mse_to_value"].max() < 1e-10
    np.testing.assert_allclose(table["mse_to_truth"], table["mse_if_copying"], rtol=0.1)


def test_error_of_a_mean_over_masked_entries_by_hand():
    values = torch.tensor([[1.0, 3.0, 9.0], [2.0, 9.0, 9.0]])
    masked = torch.tensor([[True, True, False], [True, False, False]])
    # Mean of 1, 3, 2; deviations of the matrices' sums from it: (1 + 3 - 2 * 2) and (2 - 2).
    assert token_intervention.mean_and_error(values, masked) == (2.0, 0.0)
    values[1, 0] = 8.0  # mean 4; deviations -4 and 4, so sqrt(32) / 3
    mean, error = token_intervention.mean_and_error(values, masked)
    assert mean == pytest.approx(4) and error == pytest.approx(math.sqrt(32) / 3)


def test_shift_that_leaves_no_matrix_is_one_line_that_names_it():
    shifts = NO_SHIFTS | {"factor_scale": {"gaussian": [100]}}
    with pytest.raises(InputError, match=r"with factor_law gaussian, factor_scale 100, none of 20 matrices has"):
        completion.held_out_per_task(TASK, shifts, 20, seed=0)


class Numbering(nn.Module):
    """Predicts 1 for every entry of the first of two matrices, 3 for the second."""

    def forward(self, tokens):
        return torch.tensor([[1.0], [3.0]]).expand(tokens.shape)


def test_mean_prediction_has_its_error_over_matrices():
    observed = torch.ones(2, 1, 2, dtype=torch.bool)
    observed[:, 0, 0] = False
    batch = Batch(torch.ones(2, 2, dtype=torch.long), torch.zeros(2, 1, 2), observed)
    row = token_intervention.intervene(Numbering(), TASK, batch, [], 1.0).iloc[MASK_ROW]
    # Deviations from the mean of 2 are -1 and 1, of two masked entries.
    assert row["mean_prediction"] == 2 and row["mean_prediction_error"] == pytest.approx(math.sqrt(2) / 2)
