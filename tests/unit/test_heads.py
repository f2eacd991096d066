"""Groups of heads, head ablation, activation patching, switching components: hand-made models and closed forms."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from abrupt.analyses import activation_patching, component_switching, head_ablation, mean_errors, ratio_of_sums
from abrupt.analyses.attention import (
    KEY_GROUPS,
    QUERY_GROUPS,
    extract,
    mask_patterns,
    measure_head_groups,
    random_masks,
)
from abrupt.models.bert import Bert, BertConfig, Hooks, initialise
from abrupt.models.components import PART_PATTERNS, parameter_names, with_parts_of
from abrupt.sampling import Batch, sample_batch, tokenise
from abrupt.scores.heads import head_groups, overall_scores, specialisation_steps, tidy_shares
from abrupt.task import Task

TASK = Task(
    rows=3, columns=4, rank=1, mask_probability=0.4, decimals=2, max_value=1, factor_law="uniform", factor_scale=1
)
LAYERS, HEADS = 2, 3


def make_bert(seed):
    model = Bert(BertConfig(TASK.vocab_size, 12, LAYERS, HEADS, 20, 16))
    # Large weights: attention far from uniform, and an output that depends on everything.
    initialise(model, [name for name, _ in model.named_parameters()], torch.Generator().manual_seed(seed), 1.0, 0.6)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def bert():
    return make_bert(0)


@pytest.fixture(scope="module")
def batch():
    return sample_batch(TASK, 9, 0, "analysis")


def make_scores(**heads):
    """A table of scores: for each head of layer 1 a dict of its scores, 0 on the groups that it leaves out."""
    return pd.DataFrame(
        {"layer": 1, "head": number + 1, "key_group": group, "score": scores.get(group, 0.0)}
        for number, scores in enumerate(heads.values())
        for group in KEY_GROUPS
    )


@pytest.mark.parametrize(
    ("scores", "group"),
    [
        ({"same_row": 0.5}, "same_row"),
        ({"same_row": 0.49}, "other"),
        ({"same_row": 0.6, "same_column": 0.7}, "same_column"),
        ({"self": 0.9, "observed": 1.0}, "self"),
        ({"same_column": 0.49, "observed": 0.5}, "observed"),
        ({"observed": 0.49}, "other"),
        ({"masked": 1.0, "observed": -2.0}, "other"),
    ],
)
def test_group_of_a_head(scores, group):
    # A second head, of another group: each is told by its own scores.
    groups = head_groups(make_scores(first=scores, second={"self": 1.0}))
    assert groups.loc[(1, 1)] == group and groups.loc[(1, 2)] == "self"


def test_uniform_attention_scores_at_chance_and_is_in_no_group(batch):
    uniform = make_bert(0)
    for layer in uniform.layers:
        layer.attention.query_key_value.weight[:12] = 0  # queries: every attention logit is 0
        layer.attention.query_key_value.bias[:12] = 0
    extraction = extract(uniform, TASK, batch, 1)
    attributes = {"seed": 0, "step": 0, "query_groups": QUERY_GROUPS, "key_groups": KEY_GROUPS}
    scores = tidy_shares(attributes, {"random": extraction._asdict()})
    np.testing.assert_allclose(scores["score"], 0, atol=1e-6)
    groups = measure_head_groups(uniform, TASK, batch)
    assert len(groups) == LAYERS * HEADS and set(groups) == {"other"}


def test_head_planted_on_its_row_is_a_row_head(bert, batch):
    same_row = torch.block_diag(*[torch.ones(4, 4)] * 3) - torch.eye(12)
    maps = (same_row / 3).expand(LAYERS, HEADS, 12, 12)
    heads = torch.zeros(LAYERS, HEADS, dtype=torch.bool)
    heads[1, 2] = True

    class Planted(torch.nn.Module):
        def forward_with_attention(self, tokens):
            weights = torch.where(heads[:, :, None, None], maps, 1 / 12)
            return torch.zeros(tokens.shape), weights.expand(len(tokens), *weights.shape)

    groups = measure_head_groups(Planted(), TASK, batch)
    assert groups[groups != "other"].to_dict() == {(2, 3): "same_row"}


def test_heads_specialise_when_they_stay_above_half_of_the_last_score():
    course = {0: 0.0, 100: 0.5, 200: 0.3, 300: 0.4, 400: 0.8}  # half is 0.4, and 200 is below it again
    tables = [make_scores(row={"same_row": score}, idle={}).assign(step=step) for step, score in course.items()]
    (found,) = specialisation_steps(pd.concat(tables)).to_dict("records")
    assert found == {"layer": 1, "head": 1, "group": "same_row", "step": 300}


def test_head_that_is_specialised_from_the_first_step_on():
    tables = [make_scores(head={"self": 1.0}).assign(step=step) for step in (50, 60)]
    assert specialisation_steps(pd.concat(tables))["step"].tolist() == [50]


def test_scores_that_group_heads_are_of_all_queries_and_random_masks():
    table = pd.DataFrame(
        {
            "mask_pattern": ["random", "random", "masked_rows"],
            "query_group": ["all", "masked", "all"],
            "score": [1, 2, 3],
        }
    )
    assert overall_scores(table)["score"].tolist() == [1]


def test_ratio_of_sums_with_equal_denominators_is_the_mean_and_its_standard_error():
    values = torch.tensor([1.0, 2.0, 6.0])
    ratio, error = ratio_of_sums(values * 5, torch.full((3,), 5))
    assert ratio == pytest.approx(3)
    assert error == pytest.approx(values.std().item() / math.sqrt(3))


def test_standard_error_is_the_spread_over_repetitions():
    # 400 repetitions of 200 matrices with 1 to 5 entries, whose mean depends on how many there are.
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(1, 6, (400, 200), generator=generator)
    sums = counts * (counts + torch.randn(counts.shape, generator=generator))
    found = [ratio_of_sums(*pair) for pair in zip(sums, counts, strict=True)]
    spread = np.std([ratio for ratio, _ in found])
    assert np.mean([error for _, error in found]) == pytest.approx(spread, rel=0.1)


def test_mean_errors_by_hand():
    target = torch.tensor([[[1.0, 2.0, 0.0]], [[0.0, 0.0, 0.0]]])
    observed = torch.tensor([[[True, False, False]], [[True, True, False]]])
    errors = mean_errors(torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 3.0]]), Batch(None, target, observed))
    assert errors["mse_all"] == pytest.approx((1 + 4 + 1 + 4 + 0 + 9) / 6)
    assert errors["mse_observed"] == pytest.approx((1 + 4 + 0) / 3)
    assert errors["mse_masked"] == pytest.approx((4 + 1 + 9) / 3)


@pytest.fixture
def groups():
    """Head 2 of layer 1 and head 1 of layer 2 attend to rows, all others to nothing in particular."""
    index = pd.MultiIndex.from_product([range(1, LAYERS + 1), range(1, HEADS + 1)], names=["layer", "head"])
    return pd.Series(["other", "same_row", "other", "same_row", "other", "other"], index)


def intact_and_ablated(table):
    return table[table["target"] == "none"]["mse_all"].item(), table[table["target"] != "none"]


def test_ablating_a_head_whose_output_map_is_zero_changes_nothing(batch, groups):
    model = make_bert(0)
    model.layers[0].attention.output.weight[:, 4:8] = 0  # what layer 1 takes from its head 2
    intact, ablated = intact_and_ablated(head_ablation.ablate(model, TASK, batch, groups))
    silent = (ablated["layer"] == 1) & (ablated["head"] == 2)
    assert len(ablated[silent]) == 2
    np.testing.assert_allclose(ablated[silent]["mse_all"], intact, rtol=1e-5)
    assert (abs(ablated[~silent]["mse_all"] / intact - 1) > 1e-4).all()


def test_every_head_and_every_group_is_ablated_in_both_ways(bert, batch, groups):
    _, ablated = intact_and_ablated(head_ablation.ablate(bert, TASK, batch, groups))
    heads = ablated[ablated["target"] == "head"]
    assert len(heads) == 2 * LAYERS * HEADS and set(heads["heads"]) == {1}
    group_rows = ablated[ablated["target"] == "group"]
    assert group_rows[["group", "heads", "replacement"]].values.tolist() == [
        [group, number, replacement]
        for group, number in [("same_row", 2), ("other", 4)]
        for replacement in ("batch_mean", "uniform")
    ]


def test_replacement_by_the_mean_changes_nothing_where_attention_is_the_same_for_every_matrix(bert, groups):
    one = sample_batch(TASK, 1, 0, "analysis")
    repeated = Batch(*(tensor.expand(5, *tensor.shape[1:]) for tensor in one))
    intact, ablated = intact_and_ablated(head_ablation.ablate(bert, TASK, repeated, groups))
    by_mean = ablated["replacement"] == "batch_mean"
    np.testing.assert_allclose(ablated[by_mean]["mse_all"], intact, rtol=1e-4)
    assert (abs(ablated[~by_mean]["mse_all"] / intact - 1) > 1e-3).all()


def test_all_heads_uniform_is_the_model_with_zero_queries(bert, batch):
    zero = make_bert(0)
    for layer in zero.layers:
        layer.attention.query_key_value.weight[:12] = 0
        layer.attention.query_key_value.bias[:12] = 0
    every = torch.ones(LAYERS, HEADS, dtype=torch.bool)
    uniform = torch.full((LAYERS, HEADS, 12, 12), 1 / 12)
    found = bert.forward_with_hooks(batch.tokens, head_ablation.replace_maps(every, uniform))
    torch.testing.assert_close(found, zero(batch.tokens))


def test_heads_are_grouped_on_the_matrices_that_they_are_scored_on(monkeypatch, groups):
    grouped_on = []
    monkeypatch.setattr(
        head_ablation, "measure_head_groups", lambda model, task, batch: grouped_on.append(batch) or groups
    )
    head_ablation.measure({100: make_bert(1)}, TASK, seed=3, matrices=9, attention_matrices=20)
    assert torch.equal(grouped_on[0].target, mask_patterns(TASK, 20, 3)["random"].target)


def test_heads_are_grouped_by_the_last_step_at_every_step():
    models = {100: make_bert(1), 200: make_bert(2)}
    table = head_ablation.measure(models, TASK, seed=0, matrices=9, attention_matrices=20)
    last = measure_head_groups(models[200], TASK, random_masks(TASK, 20, 0))
    for step in models:
        chosen = (table["step"] == step) & (table["target"] == "head") & (table["replacement"] == "uniform")
        assert table[chosen]["group"].tolist() == last.tolist()


@pytest.fixture(scope="module")
def patched(bert, batch):
    return activation_patching.patch(bert, TASK, batch)


def effect(table, site, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    (row,) = table[table["site"] == site].to_dict("records")
    return row["effect_masked"], row["effect_observed"]


def test_patching_all_layers_gives_the_donors_output(bert, batch):
    donor_tokens = tokenise(TASK, -batch.target, batch.observed)
    donor = activation_patching.record(bert, donor_tokens)
    every = torch.ones(LAYERS, HEADS, dtype=torch.bool)
    context = activation_patching.patch_context(donor, every)
    hidden = activation_patching.patch_hidden(donor, 0, torch.ones_like(batch.tokens, dtype=torch.bool))
    both = Hooks(context=context.context, hidden=hidden.hidden)
    torch.testing.assert_close(bert.forward_with_hooks(batch.tokens, both), bert(donor_tokens))
    assert not torch.allclose(bert(batch.tokens), bert(donor_tokens), atol=0.1)


def test_with_all_heads_patched_masked_entries_are_the_donors(patched):
    # The MASK token is the same in both inputs, so all that differs there is what heads read.
    masked, observed = effect(patched, "all_attention")
    assert masked == pytest.approx(1, abs=1e-5) and observed != pytest.approx(1, abs=0.01)


def test_hidden_states_of_the_embeddings_and_of_the_last_layer(patched):
    assert effect(patched, "hidden_observed", layer=0) == pytest.approx((1, 1), abs=1e-5)
    assert effect(patched, "hidden_masked", layer=0) == pytest.approx((0, 0), abs=1e-5)
    assert effect(patched, "hidden_observed", layer=LAYERS) == pytest.approx((0, 1), abs=1e-5)
    assert effect(patched, "hidden_masked", layer=LAYERS) == pytest.approx((1, 0), abs=1e-5)


def test_patching_a_head_whose_output_map_is_zero_has_no_effect(batch):
    model = make_bert(0)
    model.layers[1].attention.output.weight[:, 8:] = 0  # what layer 2 takes from its head 3
    table = activation_patching.patch(model, TASK, batch)
    assert effect(table, "head", layer=2, head=3) == pytest.approx((0, 0), abs=1e-5)
    assert abs(effect(table, "head", layer=2, head=2)[0]) > 1e-3


def test_a_layer_of_one_head_is_that_head(batch):
    model = Bert(BertConfig(TASK.vocab_size, 12, 2, 1, 20, 16))
    initialise(model, [name for name, _ in model.named_parameters()], torch.Generator().manual_seed(0), 1.0, 0.6)
    table = activation_patching.patch(model, TASK, batch)
    for layer in (1, 2):
        assert effect(table, "head", layer=layer) == effect(table, "attention", layer=layer)


def test_effect_is_the_part_of_the_way_from_clean_to_donor():
    clean = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])
    donor = -clean
    observed = torch.tensor([[True, False, False], [True, True, False]])
    found = activation_patching.effects(clean + 0.25 * (donor - clean), clean, donor, observed)
    assert found["effect_masked"] == pytest.approx(0.25) and found["effect_observed"] == pytest.approx(0.25)
    assert found["effect_masked_se"] == pytest.approx(0, abs=1e-6)
    assert found["difference_masked"] == pytest.approx(math.sqrt((0 + 16 + 4) / 3))


def test_effect_where_clean_and_donor_agree_is_undefined():
    zero, observed = torch.zeros(2, 3), torch.tensor([[True, False, False]]).expand(2, 3)
    assert math.isnan(activation_patching.effects(zero + 1, zero, zero, observed)["effect_masked"])


def test_switching_all_components_gives_the_other_model(batch):
    receiver, donor = make_bert(1), make_bert(2)
    mixed = with_parts_of(receiver, donor, PART_PATTERNS)
    assert torch.equal(mixed(batch.tokens), donor(batch.tokens))
    assert not torch.allclose(receiver(batch.tokens), donor(batch.tokens), atol=0.1)


@pytest.mark.parametrize("part", PART_PATTERNS)
def test_switching_a_part_takes_that_part_and_leaves_the_rest(part):
    receiver, donor = make_bert(1), make_bert(2)
    for parameter in receiver.parameters():
        parameter += 1  # biases and LayerNorms start out the same
    before = {name: value.clone() for name, value in receiver.named_parameters()}
    taken = set(parameter_names(receiver, [part]))
    for name, value in with_parts_of(receiver, donor, [part]).named_parameters():
        assert torch.equal(value, donor.get_parameter(name) if name in taken else before[name])
        assert torch.equal(receiver.get_parameter(name), before[name])


def test_switching_goes_both_ways_with_every_part():
    models = {4800: make_bert(1), 1000: make_bert(2)}
    table = component_switching.measure(models, TASK, seed=0, matrices=9)
    ways = table.groupby(["step", "donor_step"])["component"].agg(list)
    assert set(ways.index) == {(1000, 4800), (4800, 1000)}
    for components in ways:
        assert components[0] == "none" and set(PART_PATTERNS) <= set(components)
    batch = sample_batch(TASK, 9, 0, "analysis")
    for step, model in models.items():
        intact = table[(table["step"] == step) & (table["component"] == "none")]["mse_all"].item()
        assert intact == pytest.approx(mean_errors(model(batch.tokens), batch)["mse_all"])


def test_switching_one_part_in_is_switching_all_others_the_other_way(batch):
    before, after = make_bert(1), make_bert(2)
    others = [part for part in PART_PATTERNS if part != "attention"]
    one_way = with_parts_of(before, after, ["attention"])(batch.tokens)
    assert torch.equal(one_way, with_parts_of(after, before, others)(batch.tokens))
