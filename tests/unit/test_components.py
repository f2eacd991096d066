import pytest
import torch

from abrupt.models.bert import Bert, BertConfig
from abrupt.models.components import (
    COMPONENTS,
    PART_PATTERNS,
    freeze_all_but,
    give_parts,
    names_outside,
    parameter_names,
)

SIZES = [BertConfig(20, 12, 1, 3, 16, 10), BertConfig(20, 12, 3, 2, 16, 10), BertConfig(50, 8, 12, 1, 4, 9)]

ONE_LAYER = {
    "token_embedding": ["embeddings.word_embeddings.weight"],
    "position_embedding": ["embeddings.position_embeddings.weight"],
    "embedding_layer_norm": ["embeddings.layer_norm.weight", "embeddings.layer_norm.bias"],
    "attention": [
        "layers.0.attention.query_key_value.weight",
        "layers.0.attention.query_key_value.bias",
        "layers.0.attention.output.weight",
        "layers.0.attention.output.bias",
        "layers.0.attention.layer_norm.weight",
        "layers.0.attention.layer_norm.bias",
    ],
    "mlp": [
        "layers.0.mlp.intermediate.weight",
        "layers.0.mlp.intermediate.bias",
        "layers.0.mlp.output.weight",
        "layers.0.mlp.output.bias",
        "layers.0.mlp.layer_norm.weight",
        "layers.0.mlp.layer_norm.bias",
    ],
    "read_out": ["read_out.weight", "read_out.bias"],
}


@pytest.fixture
def model():
    return Bert(SIZES[0])


@pytest.mark.parametrize("config", SIZES, ids=lambda config: f"{config.num_hidden_layers} layers")
def test_every_parameter_is_in_exactly_one_part(config):
    model = Bert(config)
    in_parts = [name for part in PART_PATTERNS for name in parameter_names(model, [part])]
    assert sorted(in_parts) == sorted(name for name, _ in model.named_parameters())


@pytest.mark.parametrize("part", ONE_LAYER)
def test_parts_of_a_one_layer_model(model, part):
    assert parameter_names(model, [part]) == ONE_LAYER[part]


def test_the_table_above_covers_every_part():
    assert ONE_LAYER.keys() == PART_PATTERNS.keys()


@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_attention_and_mlp_take_every_layer(part):
    names = parameter_names(Bert(SIZES[2]), [part])
    assert {int(name.split(".")[1]) for name in names} == set(range(12))
    assert len(names) == 12 * 6


def test_the_four_components_of_the_paper_are_the_parts_of_that_name():
    for name in ("token_embedding", "position_embedding", "attention", "mlp"):
        assert COMPONENTS[name] == (name,)


def test_both_embeddings_are_tokens_positions_and_their_layer_norm(model):
    expected = ONE_LAYER["token_embedding"] + ONE_LAYER["position_embedding"] + ONE_LAYER["embedding_layer_norm"]
    assert sorted(parameter_names(model, COMPONENTS["both_embeddings"])) == sorted(expected)


def test_names_come_in_the_order_of_the_model_whatever_the_order_of_the_parts(model):
    in_model = [name for name, _ in model.named_parameters()]
    names = parameter_names(model, ["read_out", "mlp", "token_embedding"])
    assert names == sorted(names, key=in_model.index)


def test_unknown_part_is_a_key_error_that_names_it(model):
    with pytest.raises(KeyError, match="pooler"):
        parameter_names(model, ["pooler"])


@pytest.mark.parametrize("component", COMPONENTS)
def test_freezing_leaves_exactly_the_component_trainable(model, component):
    names = parameter_names(model, COMPONENTS[component])
    freeze_all_but(model, names)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == names


def test_freezing_again_replaces_the_earlier_choice(model):
    freeze_all_but(model, ONE_LAYER["mlp"])
    freeze_all_but(model, iter(ONE_LAYER["read_out"]))
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ONE_LAYER["read_out"]


@pytest.mark.parametrize("component", COMPONENTS)
def test_backward_gives_gradients_to_the_component_alone(model, component):
    names = parameter_names(model, COMPONENTS[component])
    freeze_all_but(model, names)
    model(torch.randint(1, 20, (2, 9))).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == names


def test_given_parts_are_copies_of_the_donors_and_the_others_stay(model):
    donor, before = Bert(SIZES[0]), {name: value.clone() for name, value in model.state_dict().items()}
    give_parts(model, donor, ["attention", "read_out"])
    given = parameter_names(model, ["attention", "read_out"])
    expected = {name: (donor.state_dict() if name in given else before)[name].clone() for name in before}
    with torch.no_grad():
        for parameter in donor.parameters():
            parameter.fill_(7.0)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_parts_of_a_model_of_another_size_are_refused(model):
    with pytest.raises(RuntimeError, match="size mismatch"):
        give_parts(model, Bert(SIZES[2]), ["read_out"])


def test_names_outside_of_some_parts_are_those_of_the_other_parts(model):
    others = [part for part in PART_PATTERNS if part not in ("attention", "mlp")]
    assert names_outside(model, ["attention", "mlp"]) == parameter_names(model, others)
