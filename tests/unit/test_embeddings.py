"""Token and position embeddings: closed forms for norms, components, silhouettes and shares."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from abrupt.analyses import position_embeddings, token_embeddings
from abrupt.sampling import token_ids
from abrupt.scores.embeddings import norm_asymmetry, norm_symmetry, position_scores, r_squared, token_scores
from abrupt.task import Task

TASK = Task(
    rows=3, columns=4, rank=1, mask_probability=0.3, decimals=2, max_value=2, factor_law="uniform", factor_scale=1
)


class Embedded(nn.Module):
    """A model of nothing but embeddings: those of `values` from `tokens` (N, H), positions (T, H)."""

    def __init__(self, values=None, tokens=None, positions=None):
        super().__init__()
        self.embeddings = nn.Module()
        self.device = torch.device("cpu")
        if tokens is not None:
            weight = torch.full((TASK.vocab_size, tokens.shape[1]), 99.0)
            weight[token_ids(TASK, torch.from_numpy(values))] = torch.from_numpy(tokens).float()
            self.embeddings.word_embeddings = nn.Embedding.from_pretrained(weight)
        if positions is not None:
            unused = np.full((3, positions.shape[1]), 99.0)
            weight = torch.from_numpy(np.concatenate([positions, unused])).float()
            self.embeddings.position_embeddings = nn.Embedding.from_pretrained(weight)


VALUES = token_embeddings.values_within(TASK, 0.5)


def planted_tokens(magnitude=4.0, sign=1.0):
    """|x| along one direction of a rotated basis, sign(x) along another, nothing else."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    return magnitude * np.abs(VALUES)[:, None] * basis[0] + sign * np.sign(VALUES)[:, None] * basis[1]


def token_table(models):
    return token_embeddings.measure(models, TASK, 0, largest_value=0.5).assign(seed=0)


def position_table(models):
    return position_embeddings.measure(models, TASK, 0, perplexity=3).assign(seed=0)


def grid(row_parts, column_parts):
    """Embeddings that are the sum of a part of the row and one of the column: (rows*columns, H)."""
    return (row_parts[:, None] + column_parts[None]).reshape(TASK.num_entries, -1)


def test_values_are_those_with_a_token_in_the_range():
    values = token_embeddings.values_within(TASK, 0.03)
    assert values.tolist() == [-0.03, -0.02, -0.01, 0, 0.01, 0.02, 0.03]


def test_norms_and_values_are_those_of_their_tokens():
    tokens = (1 + VALUES)[:, None] * np.array([[3.0, 4.0, 0.0]])
    tokens[:, 2] += 0.01 * np.arange(len(VALUES)) ** 2
    table = token_table({0: Embedded(VALUES, tokens)})
    assert table["value"].tolist() == VALUES.tolist()
    np.testing.assert_allclose(table["norm"], np.linalg.norm(tokens, axis=1), rtol=1e-6)
    np.testing.assert_allclose(table["distance"], np.linalg.norm(tokens - tokens.mean(0), axis=1), rtol=1e-5)


@pytest.mark.parametrize(("magnitude", "sign", "first"), [(40.0, 1.0, "magnitude"), (4.0, 10.0, "sign")])
def test_planted_components_are_found_in_the_order_of_their_variance(magnitude, sign, first):
    scores = token_scores(token_table({0: Embedded(VALUES, planted_tokens(magnitude, sign))})).iloc[0]
    second = {"magnitude": "sign", "sign": "magnitude"}[first]
    # |x| and sign(x) are uncorrelated over values that are symmetric about 0.
    assert scores[f"r2_pc1_{first}"] == pytest.approx(1, abs=1e-6)
    assert scores[f"r2_pc2_{second}"] == pytest.approx(1, abs=1e-6)
    assert scores[f"r2_pc1_{second}"] == pytest.approx(0, abs=1e-6)
    assert scores["share_pc1"] + scores["share_pc2"] == pytest.approx(1)


def test_shares_of_variance_are_those_of_the_planted_directions():
    scores = token_scores(token_table({0: Embedded(VALUES, planted_tokens(40.0, 1.0))})).iloc[0]
    large, small = 40.0**2 * np.abs(VALUES).var(), np.sign(VALUES).var()
    assert scores["share_pc1"] == pytest.approx(large / (large + small), rel=1e-5)


def test_final_axes_are_those_of_the_last_step():
    first, last = planted_tokens(4.0, 10.0), planted_tokens(40.0, 1.0)
    table = token_table({100: Embedded(VALUES, last), 0: Embedded(VALUES, first)})
    early = table[table["step"] == 0]
    assert r_squared(early["final_pc1"].to_numpy(), np.abs(VALUES)) == pytest.approx(1, abs=1e-6)
    assert r_squared(early["pc1"].to_numpy(), np.sign(VALUES)) == pytest.approx(1, abs=1e-6)


def test_norms_that_are_symmetric_correlate_fully():
    assert norm_symmetry(VALUES, 2 + VALUES**2) == pytest.approx(1)


def test_norms_that_are_antisymmetric_anticorrelate():
    assert norm_symmetry(VALUES, 2 + VALUES) == pytest.approx(-1)


def test_norm_asymmetry_by_hand():
    value = np.array([-2.0, -1, 0, 1, 2])
    assert norm_asymmetry(value, np.array([5.0, 1, 0, 2, 4])) == pytest.approx(0.2)


def test_constant_norms_have_no_asymmetry():
    assert np.isnan(norm_asymmetry(VALUES, np.ones(len(VALUES))))


def test_norm_symmetry_by_hand():
    # Pairs (1, 1), (2, 3), (3, 2): correlation 1/2; the norm of 0 has no part in it.
    value = np.array([-3, -2, -1, 0, 1, 2, 3]) / 100
    assert norm_symmetry(value, np.array([2.0, 3, 1, 77, 1, 2, 3])) == pytest.approx(0.5)


def test_equal_norms_have_no_correlation():
    assert np.isnan(norm_symmetry(VALUES, np.ones(len(VALUES))))


def test_r_squared_by_hand():
    assert r_squared(np.array([0.0, 1, 2]), np.array([5.0, 3, 1])) == pytest.approx(1)
    # Covariance 1/3, variances 2/3 and 2/9.
    assert r_squared(np.array([0.0, 1, 2]), np.array([0.0, 0, 1])) == pytest.approx(0.75)
    assert np.isnan(r_squared(np.ones(3), np.array([0.0, 0, 1])))


def test_position_scores_of_pure_columns():
    columns = np.eye(4)
    table = position_table({0: Embedded(positions=grid(np.zeros((3, 4)), columns))})
    scores = position_scores(table).iloc[0]
    assert scores["silhouette_column"] == pytest.approx(1)
    assert scores["silhouette_row"] < 0
    assert scores["share_column"] == pytest.approx(1, abs=1e-6)
    assert scores["share_row"] == pytest.approx(0, abs=1e-6)


def test_silhouette_by_hand():
    # One dimension: columns at 0, 10, 20, 30, rows at 0, 1, 2 within them. For the position of column 0 and row 0 the
    # mean distance to its column is 1.5, to the next column 11.
    rows, columns = np.arange(3.0)[:, None], 10 * np.arange(4.0)[:, None]
    # t-SNE starts from two principal components: a second dimension without extent is enough.
    embeddings = np.concatenate([grid(rows, columns), np.zeros((12, 1))], axis=1)
    table = position_table({0: Embedded(positions=embeddings)})
    assert table["silhouette_column"][0] == pytest.approx((11 - 1.5) / 11)
    assert table[["row", "column"]].head(5).to_numpy().tolist() == [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1]]


def test_shares_of_a_grid_are_the_variances_of_its_parts():
    random = np.random.default_rng(0)
    rows, columns = 3 * random.normal(size=(3, 5)), random.normal(size=(4, 5))
    scores = position_scores(position_table({0: Embedded(positions=grid(rows, columns))})).iloc[0]
    between_rows, between_columns = rows.var(0).sum(), columns.var(0).sum()
    assert scores["share_row"] == pytest.approx(between_rows / (between_rows + between_columns), rel=1e-5)
    assert scores["share_column"] == pytest.approx(between_columns / (between_rows + between_columns), rel=1e-5)
    assert scores["share_rest"] == pytest.approx(0, abs=1e-6)


def test_random_positions_have_the_shares_of_chance():
    embeddings = np.random.default_rng(0).normal(size=(12, 2000))
    scores = position_scores(position_table({0: Embedded(positions=embeddings)})).iloc[0]
    assert scores["share_row"] == pytest.approx(2 / 11, abs=0.02)
    assert scores["share_column"] == pytest.approx(3 / 11, abs=0.02)
    assert scores["silhouette_row"] == pytest.approx(0, abs=0.05)


def test_a_vector_added_to_all_positions_changes_no_score():
    embeddings = np.random.default_rng(0).normal(size=(12, 6))
    moved = {0: Embedded(positions=embeddings), 1: Embedded(positions=embeddings + 5)}
    scores = position_scores(position_table(moved)).drop(columns="step")
    pd.testing.assert_series_equal(scores.iloc[0], scores.iloc[1], check_names=False, rtol=1e-4)


def test_map_is_the_same_every_time():
    models = {0: Embedded(positions=np.random.default_rng(0).normal(size=(12, 6)))}
    pd.testing.assert_frame_equal(position_table(models), position_table(models))
