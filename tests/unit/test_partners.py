"""Partners: predictors whose partners are known, and a model whose first layer is set to a given map."""

import math
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import torch

from abrupt.analyses import partners as analysis
from abrupt.models.bert import Bert, BertConfig
from abrupt.sampling import Batch, make_generator, sample_batch
from abrupt.scores import partners as scores
from abrupt.task import Task

TASK = Task(
    rows=4, columns=4, rank=1, mask_probability=0.3, decimals=2, max_value=1, factor_law="uniform", factor_scale=1
)
T = TASK.num_entries
POSITION = torch.arange(T)
ROW, COLUMN = POSITION // 4, POSITION % 4
ACROSS = (ROW ^ 1) * 4 + COLUMN  # rows 0 and 1, 2 and 3 are pairs
ALONG = ROW * 4 + (COLUMN ^ 1)
# Rows 0, 1 and 2 wait for either of the others, row 3 for row 0.
RING = torch.stack([torch.where(ROW < 3, (ROW + 1) % 3, 0), torch.where(ROW < 3, (ROW + 2) % 3, 0)]) * 4 + COLUMN


@pytest.fixture(scope="module")
def batch():
    return sample_batch(TASK, 6000, 0, "partners")


def halves(batch, prediction):
    half = len(prediction) // 2
    parts = [
        (Batch(*(of[place] for of in batch)), prediction[place]) for place in (slice(None, half), slice(half, None))
    ]
    return analysis.map_edges(TASK, *parts, make_generator(0, "test"))


def predicts(batch, decided):
    """Exact where `decided` (B, T), 0 elsewhere."""
    return torch.where(decided, batch.target.flatten(1), 0.0)


def as_map(*positions):
    """A map (T, T) with the given partners of every query."""
    edges = torch.zeros(T, T, dtype=torch.bool)
    for position in positions:
        edges[POSITION, position] = True
    return edges


@pytest.mark.parametrize(
    ("positions", "name"),
    [([ACROSS], "one"), (list(RING), "ring"), ([torch.where(ROW < 2, ALONG, ACROSS)], "both axes")],
)
def test_partners_are_found(batch, positions, name):
    observed = batch.observed.flatten(1)
    decided = torch.stack([observed[:, position] for position in positions]).any(0)
    edges = halves(batch, predicts(batch, decided))
    assert torch.equal(edges.partners, as_map(*positions))
    assert (edges.needed.sum(1) == 1).all()


def test_one_of_two_interchangeable_partners_has_a_small_gain_but_decides_alone(batch):
    observed = batch.observed.flatten(1)
    edges = halves(batch, predicts(batch, observed[:, RING[0]] | observed[:, RING[1]]))
    of_ring = edges.partners.sum(1) == 2
    assert of_ring.sum() == 12
    chosen = edges.partners & of_ring[:, None]
    assert edges.gain[chosen].mean() == pytest.approx(0.3, abs=0.02)
    assert edges.gain_alone[chosen].min() == 1


def test_luck_that_is_independent_of_masks_has_no_partners(batch):
    luck = torch.rand(len(batch.tokens), T, generator=make_generator(0, "luck")) < 0.6
    edges = halves(batch, predicts(batch, luck))
    assert not edges.partners.any()


def test_fixed_minor_needs_three_entries_and_no_one_decides(batch):
    observed = batch.observed.flatten(1)
    minor = [ACROSS, ALONG, (ROW ^ 1) * 4 + (COLUMN ^ 1)]
    edges = halves(batch, predicts(batch, torch.stack([observed[:, position] for position in minor]).all(0)))
    assert torch.equal(edges.needed, as_map(*minor))
    assert not edges.partners.any()


def test_slope_finds_partners_of_predictions_that_are_never_within_the_threshold(batch):
    half_right = predicts(batch, batch.observed.flatten(1)[:, ACROSS]) / 2
    edges = halves(batch, half_right)
    assert not edges.order.any()
    assert torch.equal(edges.by_slope > 0, as_map(ACROSS))
    assert edges.gain_slope[as_map(ACROSS)].numpy() == pytest.approx(0.5, abs=1e-5)


# The error of maps.


def closed_form(partners, columns, p):
    """P(failure) where each query has so many partners, all of its column: given m observed entries of the query's
    row, each partner fails by itself, masked or with none of these observed in its row."""
    total = 0.0
    for m in range(columns):
        share = math.comb(columns - 1, m) * (1 - p) ** m * p ** (columns - 1 - m)
        total += share * (p + (1 - p) * p**m) ** partners
    return total


@pytest.mark.parametrize("positions", [[ACROSS], [(ROW + 1) % 4 * 4 + COLUMN, (ROW + 2) % 4 * 4 + COLUMN]])
def test_error_of_a_map_of_row_pairs_is_the_closed_form(positions):
    level = scores.predicted_level(TASK, as_map(*positions).numpy(), np.zeros((T, T), dtype=bool))
    expected = closed_form(len(positions), 4, 0.3) / 9
    assert level.mse == pytest.approx(expected, rel=0.02)
    assert level.any_line == pytest.approx(level.mse)


def test_error_without_a_partner_is_that_of_predicting_0_and_a_minor_fails_unless_all_is_observed():
    nothing = np.zeros((T, T), dtype=bool)
    minor = as_map(ACROSS, ALONG, (ROW ^ 1) * 4 + (COLUMN ^ 1)).numpy()
    assert scores.predicted_level(TASK, nothing, nothing).mse == pytest.approx(1 / 9)
    assert scores.predicted_level(TASK, nothing, minor).mse == pytest.approx((1 - 0.7**3) / 9, rel=0.02)


def test_ratio_is_read_through_the_map():
    # The partner of (0, 0) is (0, 1), and of the other rows only row 1 has such partners.
    partners = as_map(torch.where(ROW < 2, ALONG, ACROSS)).numpy()
    observed = np.ones((3, 4, 4), dtype=bool)
    observed[1, 1, 0] = False
    observed[2, 1:, 0] = False
    state = scores.conditions(TASK, partners, np.zeros_like(partners), observed)[:, 0]
    names = [scores.CONDITIONS[number] for number in state]
    assert names == ["decided", "not_through_map", "no_shared_line"]


def test_lines_that_are_nobodys_partner_are_left_over():
    partners = as_map(torch.where(ROW < 3, (ROW + 1) % 3, 0) * 4 + COLUMN).numpy()
    found = scores.pairs(TASK, partners)
    assert found.to_numpy().tolist() == [["row", 1, 2, 4], ["row", 2, 3, 4], ["row", 3, 1, 4], ["row", 4, 1, 4]]
    assert scores.left_over(TASK, partners) == {"row": [4]}


# A model that reads the partner in the first layer, on matrices whose rows are all alike: the partner's value is the
# truth. The second layer does nothing.

SIZE = 20  # a direction for each position, then one that carries the value, and another minus the value
SMALL = 0.05  # the value's share of the state, for LayerNorm to leave it as it is


def model_of(partner):
    """A Bert whose query q attends to `partner`[q] (T,) alone in the first layer."""
    model = Bert(BertConfig(TASK.vocab_size, SIZE, 2, 1, 4, T))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float("layer_norm.weight" in name))
        values = (torch.arange(TASK.vocab_size) - 1) / 100 - 1
        values[0] = 0
        model.embeddings.word_embeddings.weight[:, T] = SMALL * values
        model.embeddings.word_embeddings.weight[:, T + 1] = -SMALL * values
        model.embeddings.position_embeddings.weight[:, :T] = torch.eye(T)
        attention = model.layers[0].attention
        attention.query_key_value.weight[:T, :T] = 20 * torch.eye(T)[partner].mT
        attention.query_key_value.weight[SIZE : SIZE + T, :T] = torch.eye(T)
        attention.query_key_value.weight[2 * SIZE + T, [T, T + 1]] = torch.tensor([1.0, -1.0])
        attention.output.weight[T, T] = 1
        attention.output.weight[T + 1, T] = -1
        model.read_out.weight[0, [T, T + 1]] = torch.tensor([1.0, -1.0])
        state = torch.full((1, T), 0, dtype=torch.int64)
        state[0, partner[0]] = TASK.vocab_size - 1  # the value 1
        model.read_out.weight /= model(state)[0, 0]
    return model


@pytest.fixture(scope="module")
def hand_set():
    batch = sample_batch(TASK, 4000, 0, "partners")
    target = batch.target[:, :1].expand(-1, 4, -1)
    tokens = torch.where(batch.observed, torch.round(target * 100).long() + 101, 0).flatten(1)
    table = analysis.partners_of(model_of(ACROSS), TASK, Batch(tokens, target, batch.observed))
    return table.assign(step=100, seed=0)


def test_analysis_finds_the_map_of_the_first_layer(hand_set):
    assert np.array_equal(scores.partner_map(hand_set, TASK, 100), as_map(ACROSS).numpy())
    attention = scores.later_attention(hand_set, TASK, 100).iloc[0]
    assert attention["attention"] == pytest.approx(1, abs=1e-3) and attention["share_largest"] == 1
    assert attention["chance"] == pytest.approx(1 / 6)


def test_predictions_follow_the_partner_and_nothing_else(hand_set):
    rows = scores.part(hand_set, "interventions").set_index(["intervention", "role"])
    assert rows.loc[("flip", "partner"), "flipped"] == 1
    assert rows.loc[("flip", "partner"), "stays"] == pytest.approx(-1, abs=1e-4)
    assert rows.loc[("resample", "partner"), "follows"] == pytest.approx(1, abs=0.01)
    for role in ("same_line", "other_line", "elsewhere", "as_attended"):
        assert rows.loc[("flip", role), "flipped"] == 0
        assert rows.loc[("resample", role), "stays"] == pytest.approx(1, abs=0.01)


def test_only_the_cut_of_the_partners_edge_in_the_first_layer_takes_the_prediction_away(hand_set):
    rows = scores.part(hand_set, "cuts")
    intact = rows.loc[rows["edge"] == "none", "mse_masked"].item()
    first = (rows["edge"] == "partner") & (rows["layer"] == 1)
    assert rows.loc[first, "mse_masked"].item() > 0.9 * rows["mse_zero"].iloc[0]
    assert rows.loc[~first, "mse_masked"].to_numpy() == pytest.approx(intact, rel=1e-3)


def test_claim_holds_for_the_model_but_for_what_it_does_without_ratios_and_a_plateau(hand_set):
    plateau = hand_set.assign(step=0, attention=np.where(hand_set["part"] == "edges", 1 / T, hand_set["attention"]))
    numbers = scores.claimed(pd.concat([plateau, hand_set]), TASK, plateau_step=0, rest_step=100)
    held = {name for name, criterion in scores.CRITERIA.items() if criterion.holds(numbers[name])}
    # The truth is the partner's value itself: no line has to show a ratio.
    assert set(numbers) - held == {"no_ratio", "level"}


def test_claim_does_not_hold_without_partners(batch):
    class Nothing(Bert):
        def forward(self, tokens):
            return super().forward(tokens) * 0

        def forward_with_hooks(self, tokens, hooks):
            return super().forward_with_hooks(tokens, hooks) * 0

    model = Nothing(BertConfig(TASK.vocab_size, 8, 1, 1, 8, T))
    few = Batch(*(of[:400] for of in batch))
    table = analysis.partners_of(model, TASK, few).assign(step=0, seed=0)
    numbers = scores.claimed(table, TASK, plateau_step=0, rest_step=0)
    held = {name for name, criterion in scores.CRITERIA.items() if criterion.holds(numbers[name])}
    assert held == {"level"}  # the level of predicting 0 is that of a map without edges


@pytest.mark.parametrize("name", ["partners", "partners_seeds"])
@pytest.mark.parametrize("with_partners", [True, False])
def test_figures_are_drawn_from_their_table_alone(hand_set, tmp_path, name, with_partners):
    training, measured = tmp_path / "pretrain" / "seed0" / "training.csv", tmp_path / "partners.csv"
    training.parent.mkdir(parents=True)
    steps = np.arange(50, 1050, 50)
    masked = np.where(steps < 600, 1 / 9, 0.035) if with_partners else np.full(len(steps), 1 / 9)
    pd.DataFrame({"step": steps, "mse_masked": masked}).to_csv(training, index=False)
    plateau = hand_set.assign(step=100, gain_alone=np.nan)
    plateau = plateau[~plateau["part"].isin(["interventions"])]
    late = hand_set if with_partners else plateau
    pd.concat([plateau, late.assign(step=800), late.assign(step=1000)]).to_csv(measured, index=False)
    figure = import_module(f"abrupt.figures.{name}")
    table = figure.tidy(TASK, [str(training)], [str(measured)])
    table.to_csv(tmp_path / "table.csv", index=False)
    assert figure.draw(pd.read_csv(tmp_path / "table.csv"), TASK).axes


def test_rest_is_where_the_loss_is_flat_below_half_the_plateau_and_above_the_end():
    step = np.arange(50, 4050, 50)
    loss = np.interp(step, [0, 1000, 1500, 2200, 3000, 4000], [1, 1, 0.35, 0.34, 0.01, 0.01]) / 9
    assert scores.rest_step(step, loss, 1 / 9, [500, 1000, 1250, 1800, 2500, 3500, 4000]) == 1800
    assert scores.rest_step(step, np.full(len(step), 1 / 9), 1 / 9, [500, 4000]) == 4000
