"""Probes, permuted positions: planted codes and closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from abrupt.analyses import permuted_positions, probes
from abrupt.models.bert import Bert, BertConfig, initialise
from abrupt.sampling import Batch, make_generator, sample_batch, tokenise
from abrupt.task import Task

TASK = Task(
    rows=4, columns=5, rank=2, mask_probability=0.3, decimals=2, max_value=2, factor_law="uniform", factor_scale=1
)
TRAIN, MATRICES = 150, 220


WIDTH = 8


class Planted(nn.Module):
    """A model whose hidden states are `code(values)` of what it sees (B, T), 0 for
    MASK, and zeros up to WIDTH."""

    def __init__(self, *codes):
        super().__init__()
        self.codes = codes

    def forward_with_hooks(self, tokens, hooks):
        values = torch.where(tokens == 0, 0.0, (tokens - 1) / 100 - 2)
        for layer, code in enumerate(self.codes):
            hidden = code(values)
            hooks.hidden(layer, nn.functional.pad(hidden, (0, max(0, WIDTH - hidden.shape[-1]))))


def mixed(features):
    """Features (B, T, F) in F random directions of WIDTH: a planted linear code."""
    return features @ torch.randn(features.shape[-1], WIDTH, generator=torch.Generator().manual_seed(0))


def own_row(values):
    return values.unflatten(1, (4, 5)).repeat_interleave(5, dim=1)


def own_column(values):
    return values.unflatten(1, (4, 5)).mT.repeat(1, 4, 1)


def code_of_row(values):
    return mixed(own_row(values))


def code_of_squares(values):
    return mixed(own_row(values) ** 2)


@pytest.fixture(scope="module")
def batch():
    return sample_batch(TASK, MATRICES, 0, "analysis")


@pytest.fixture(scope="module")
def table(batch):
    codes = (code_of_row, code_of_squares, lambda values: mixed(own_column(values)), lambda values: values[..., None])
    return probes.probe(Planted(*codes), TASK, batch, TRAIN).set_index(["target", "entries", "layer"])


def test_planted_linear_code_is_read(table):
    found = table.loc["masked_row", "all", 0]
    assert found["mse"] < 1e-10
    assert found["abs_cosine"] == pytest.approx(1, abs=1e-6)


def test_planted_squares_are_not_read_as_signed_values(table):
    mean = table.loc[("masked_row", "all", math.nan), "mse"]
    assert table.loc[("masked_row", "all", 1), "mse"] > 0.9 * mean


def test_column_code_gives_the_column_and_not_the_row(table):
    assert table.loc[("masked_column", "all", 2), "mse"] < 1e-10
    assert table.loc[("masked_row", "all", 2), "mse"] > 0.5 * table.loc[("masked_row", "all", math.nan), "mse"]


def test_copied_value_is_read_where_observed_and_is_0_where_masked(table, batch):
    assert table.loc[("element_value", "observed", 3), "mse"] < 1e-10
    test = batch.target[TRAIN:][~batch.observed[TRAIN:]]
    assert table.loc[("element_value", "masked", 3), "mse"] == pytest.approx((test**2).mean().item(), rel=1e-5)


class Oracle(nn.Module):
    """A model whose hidden states tell every value: observed ones as they are, masked ones with the other sign."""

    def __init__(self, batch):
        super().__init__()
        values = torch.where(batch.observed, batch.target, -batch.target).flatten(1)[..., None]
        self.hidden_of = dict(zip(map(tuple, batch.tokens.tolist()), values, strict=True))

    def forward_with_hooks(self, tokens, hooks):
        hooks.hidden(0, torch.stack([self.hidden_of[tuple(row)] for row in tokens.tolist()]))


def test_probe_of_masked_values_is_fitted_on_masked_entries_alone(batch):
    table = probes.probe(Oracle(batch), TASK, batch, TRAIN).set_index(["target", "entries", "layer"])
    assert table.loc[("masked_value", "masked", 0), "mse"] < 1e-10
    # One probe for all entries goes by the observed ones, which are more.
    assert table.loc[("element_value", "masked", 0), "relative_mse"] > 1


def test_masked_values_are_measured_at_masked_entries_alone(table):
    assert set(table.loc["masked_value"].index.get_level_values("entries")) == {"masked"}


def test_mean_is_that_of_the_training_matrices(table, batch):
    mean = batch.target[:TRAIN].mean()
    expected = ((batch.target[TRAIN:] - mean) ** 2).mean().item()
    assert table.loc[("element_value", "all", math.nan), "mse"] == pytest.approx(expected, rel=1e-5)


def test_single_values_have_no_cosine(table):
    assert table.loc[["element_value", "masked_value"]]["abs_cosine"].isna().all()


def test_probe_is_fitted_on_the_training_matrices_alone(batch):
    # As many features as entries in the one training matrix: it is learnt by heart, which helps no other.
    frequencies = torch.arange(1, 21) * 1.7
    model = Planted(lambda values: torch.sin(values[..., None] * frequencies + frequencies))
    table = probes.probe(model, TASK, batch, 1).set_index(["target", "entries", "layer"])
    assert table.loc[("masked_row", "all", 0), "mse"] > 3 * table.loc[("masked_row", "all", math.nan), "mse"]


def test_chunks_do_not_change_the_probe(batch, monkeypatch):
    targets = probes.probe_targets(batch)["masked_row"]
    chosen = batch.observed.flatten(1)
    whole = probes.fit(Planted(code_of_row), batch.tokens, targets, chosen)
    monkeypatch.setattr(probes, "CHUNK_SIZE", 7)
    torch.testing.assert_close(probes.fit(Planted(code_of_row), batch.tokens, targets, chosen), whole)


def test_fit_is_least_squares(batch):
    targets = probes.probe_targets(batch)["singular_vector"]
    model = Planted(lambda values: torch.stack([values, values**2, values.abs()], dim=-1))
    hidden = probes.hidden_states(model, batch.tokens)[0].flatten(0, 1)
    # Three of WIDTH directions are in use: of all solutions the shortest, as numpy's.
    chosen = torch.rand(targets.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.5
    fitted = chosen.flatten()
    expected, *_ = np.linalg.lstsq(hidden[fitted].numpy(), targets.flatten(0, 1)[fitted].numpy())
    np.testing.assert_allclose(probes.fit(model, batch.tokens, targets, chosen)[0], expected, atol=1e-10)


def test_rows_and_columns_of_targets_by_hand():
    target = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    observed = torch.tensor([[[True, False, True], [True, True, False]]])
    targets = probes.probe_targets(Batch(torch.zeros(1, 6), target, observed))
    assert targets["element_value"][0, :, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert targets["masked_row"][0].tolist() == [[1, 0, 3]] * 3 + [[4, 5, 0]] * 3
    assert targets["masked_column"][0].tolist() == [[1, 4], [0, 5], [3, 0]] * 2


def test_singular_vector_agrees_with_the_column_of_the_entry():
    left, right = torch.tensor([0.6, -0.8]), torch.tensor([2.0, -1.0, 0.5])
    found = probes.top_left_singular_vectors(torch.outer(left, right)[None].double())
    expected = left.double() * right.sign()[:, None]
    torch.testing.assert_close(found[0], expected, atol=1e-7, rtol=0)


def test_zero_targets_do_not_count_for_the_cosine():
    truth = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]])
    prediction = torch.tensor([[[-2.0, 0.0], [3.0, 4.0], [1.0, 0.0]]])
    errors = probes.probe_errors(prediction, torch.ones(2).expand(1, 3, 2), truth, torch.ones(1, 3).bool())
    assert errors["abs_cosine"] == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert errors["mse"] == pytest.approx((9 + 25 + 1) / 6)
    assert errors["relative_mse"] == pytest.approx((9 + 25 + 1) / 3)


def test_error_of_the_mean_is_1_in_its_own_units(table):
    mean_rows = table[table.index.get_level_values("layer").isna()]
    np.testing.assert_allclose(mean_rows["relative_mse"], 1, rtol=1e-12)
    np.testing.assert_allclose(mean_rows["relative_mse_se"], 0, atol=1e-12)


def test_moving_entries_is_permuting_the_embeddings_of_a_bert(batch):
    model = Bert(BertConfig(TASK.vocab_size, 16, 2, 2, 32, 24))
    initialise(model, [name for name, _ in model.named_parameters()], make_generator(0, "init"), 0.5, 0.5)
    positions = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = permuted_positions.predict(model, batch.tokens[:3], positions)
        before = model(batch.tokens[:3])
        model.embeddings.position_embeddings.weight[:20] = model.embeddings.position_embeddings.weight[positions]
        expected = model(batch.tokens[:3])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(before, expected, atol=1e-3), "positions must matter for this test to mean anything"


@pytest.mark.parametrize(
    ("kind", "keeps_rows", "keeps_columns"),
    [
        ("rows_and_columns", True, True),
        ("within_rows", True, False),
        ("within_columns", False, True),
        ("everywhere", False, False),
    ],
)
def test_what_a_kind_of_permutation_keeps(kind, keeps_rows, keeps_columns):
    positions = permuted_positions.permuted_positions(TASK, kind, make_generator(1, "test"))
    assert sorted(positions.tolist()) == list(range(20))
    place = positions.reshape(4, 5)
    assert all(len(set(row.tolist())) == 1 for row in place // 5) == keeps_rows
    assert all(len(set(column.tolist())) == 1 for column in place.T % 5) == keeps_columns
    assert not torch.equal(positions, torch.arange(20))


class Copying(nn.Module):
    """Predicts what it sees, whatever the positions."""

    def forward(self, tokens):
        return torch.where(tokens == 0, 0.0, (tokens - 1) / 100 - 2)


def test_model_without_positions_does_not_mind(batch):
    table = permuted_positions.permute(Copying(), TASK, batch, permutations=2)
    assert table["kind"].tolist() == ["none"] + [kind for kind in permuted_positions.KINDS for _ in range(2)]
    np.testing.assert_allclose(table["mse_masked"], table["mse_masked"][0], rtol=1e-12)
    np.testing.assert_allclose(table["mse_observed"], 0, atol=1e-12)


class RowMean(nn.Module):
    """Predicts the mean of the observed entries of the row: right for matrices with equal entries in a row."""

    def forward(self, tokens):
        values = torch.where(tokens == 0, 0.0, (tokens - 1) / 100 - 2).unflatten(1, (4, 5))
        seen = (tokens != 0).unflatten(1, (4, 5)).sum(-1, keepdim=True)
        return (values.sum(-1, keepdim=True) / seen).expand(-1, -1, 5).flatten(1)


def test_model_of_rows_minds_only_permutations_that_break_rows():
    levels = torch.linspace(-1, 1, 4).mul(100).round() / 100
    target = levels[:, None].expand(4, 5)[None]
    observed = torch.ones(1, 4, 5, dtype=torch.bool)
    batch = Batch(tokenise(TASK, target, observed), target, observed)
    table = permuted_positions.permute(RowMean(), TASK, batch, permutations=3)
    worst = table.groupby("kind")["mse_all"].max()
    best = table.groupby("kind")["mse_all"].min()
    assert worst[["none", "rows_and_columns", "within_rows"]].max() < 1e-10
    assert best[["within_columns", "everywhere"]].min() > 0.01
