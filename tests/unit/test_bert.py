import math

import pytest
import torch
from baseline import AuthorsModel

from abrupt.models.bert import Bert, BertConfig, CpuAttention, Hooks, fused_attention, initialise, split_heads

# Every size differs from every other, and none is a power of two.
SIZES = {
    "odd": {"config": BertConfig(53, 36, 2, 3, 50, 40), "batch": 3, "length": 35},
    "one head, no spare position": {"config": BertConfig(23, 10, 1, 1, 7, 12), "batch": 2, "length": 12},
    "deep": {"config": BertConfig(31, 24, 4, 6, 96, 30), "batch": 4, "length": 21},
}


def hf_reference(config: BertConfig) -> AuthorsModel:
    """The authors' model. Biases, LayerNorms and small weights at their defaults would hide a wrong mapping."""
    reference = AuthorsModel(config)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(std=0.3)
        reference._backbone.embeddings.word_embeddings.weight[0] = 0
        reference._backbone.embeddings.token_type_embeddings.weight.zero_()
    return reference


@pytest.fixture(params=SIZES)
def case(request):
    """Both models with the same weights, tokens with MASK among them, and targets."""
    size = SIZES[request.param]
    torch.manual_seed(0)
    reference, model = hf_reference(size["config"]), Bert(size["config"])
    model.load_hf_state_dict(reference.state_dict())
    tokens = torch.randint(1, size["config"].vocab_size, (size["batch"], size["length"]))
    tokens[torch.rand(tokens.shape) < 0.3] = 0
    return reference, model, tokens, torch.randn(tokens.shape)


def hf_gradients(model: Bert) -> dict[str, torch.Tensor]:
    """Our gradients under Hugging Face's names, written out independently of the library's mapping."""
    gradients = {
        "_backbone.embeddings.word_embeddings.weight": model.embeddings.word_embeddings.weight.grad,
        "_backbone.embeddings.position_embeddings.weight": model.embeddings.position_embeddings.weight.grad,
    }

    def add(hf_name, module):
        gradients[f"{hf_name}.weight"], gradients[f"{hf_name}.bias"] = module.weight.grad, module.bias.grad

    add("_backbone.embeddings.LayerNorm", model.embeddings.layer_norm)
    add("read_out", model.read_out)
    for i, layer in enumerate(model.layers):
        prefix = f"_backbone.encoder.layer.{i}"
        fused = layer.attention.query_key_value
        parts = zip(fused.weight.grad.chunk(3), fused.bias.grad.chunk(3), strict=True)
        for part, (weight, bias) in zip(("query", "key", "value"), parts, strict=True):
            gradients[f"{prefix}.attention.self.{part}.weight"] = weight
            gradients[f"{prefix}.attention.self.{part}.bias"] = bias
        add(f"{prefix}.attention.output.dense", layer.attention.output)
        add(f"{prefix}.attention.output.LayerNorm", layer.attention.layer_norm)
        add(f"{prefix}.intermediate.dense", layer.mlp.intermediate)
        add(f"{prefix}.output.dense", layer.mlp.output)
        add(f"{prefix}.output.LayerNorm", layer.mlp.layer_norm)
    return gradients


def test_output_is_that_of_hugging_face(case):
    reference, model, tokens, _ = case
    torch.testing.assert_close(model(tokens), reference(tokens), atol=1e-5, rtol=0)


def test_gradients_are_those_of_hugging_face(case):
    reference, model, tokens, target = case
    for either in (reference, model):
        ((either(tokens) - target) ** 2).mean().backward()
    ours = hf_gradients(model)
    theirs = {name: p.grad for name, p in reference.named_parameters() if "token_type" not in name}
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(
            ours[name], gradient, atol=1e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_hugging_face_with_our_weights_gives_our_output(case):
    reference, model, tokens, _ = case
    generator = torch.Generator().manual_seed(1)
    initialise(model, [name for name, _ in model.named_parameters()], generator, embedding_std=0.5, weight_std=0.3)
    missing, unexpected = reference.load_state_dict(model.hf_state_dict(), strict=False)
    assert not unexpected and all("token_type" in name or "position_ids" in name for name in missing)
    torch.testing.assert_close(reference(tokens), model(tokens), atol=1e-5, rtol=0)


def test_forward_with_attention_predicts_as_forward_does(case):
    _, model, tokens, _ = case
    torch.testing.assert_close(model.forward_with_attention(tokens)[0], model(tokens), atol=1e-5, rtol=0)


def test_attention_weights_are_those_of_hugging_face(case):
    reference, model, tokens, _ = case
    theirs = torch.stack(reference._backbone(tokens, output_attentions=True).attentions, dim=1)
    torch.testing.assert_close(model.forward_with_attention(tokens)[1], theirs, atol=1e-5, rtol=0)


def test_attention_of_every_query_sums_to_one(case):
    _, model, tokens, _ = case
    weights = model.forward_with_attention(tokens)[1]
    config = model.config
    assert weights.shape[:3] == (len(tokens), config.num_hidden_layers, config.num_attention_heads)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5, rtol=0)


def test_hf_state_dict_is_the_inverse_of_loading(case):
    reference, model, _, _ = case
    written = model.hf_state_dict()
    original = {name: value for name, value in reference.state_dict().items() if name in written}
    assert len(written) == len([name for name, _ in reference.named_parameters() if "token_type" not in name])
    assert all(torch.equal(written[name], original[name]) for name in written)


SMALL = BertConfig(20, 12, 2, 3, 16, 10)


def small_model() -> Bert:
    torch.manual_seed(0)
    return Bert(SMALL)


def test_hf_state_dict_does_not_share_memory_with_the_model():
    model = small_model()
    for value in model.hf_state_dict().values():
        value.fill_(7.0)
    assert all((parameter != 7.0).all() for parameter in model.parameters())


def test_missing_key_is_a_key_error_that_names_it():
    state = small_model().hf_state_dict()
    del state["_backbone.encoder.layer.1.attention.self.key.bias"]
    with pytest.raises(KeyError, match=r"_backbone\.encoder\.layer\.1\.attention\.self\.key\.bias"):
        small_model().load_hf_state_dict(state)


def test_unknown_key_is_a_value_error_that_names_it():
    state = small_model().hf_state_dict() | {"_backbone.encoder.layer.9.output.dense.bias": torch.zeros(12)}
    with pytest.raises(ValueError, match=r"_backbone\.encoder\.layer\.9\.output\.dense\.bias"):
        small_model().load_hf_state_dict(state)


@pytest.mark.parametrize("extra", ["missing", "unknown"])
def test_refused_state_dict_leaves_the_model_as_it_was(extra):
    model, state = small_model(), {name: value + 1 for name, value in small_model().hf_state_dict().items()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if extra == "missing":
        del state["read_out.bias"]
    else:
        state["read_out.extra"] = torch.zeros(1)
    with pytest.raises((KeyError, ValueError)):
        model.load_hf_state_dict(state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "key",
    [
        "_backbone.pooler.dense.weight",
        "_backbone.pooler.dense.bias",
        "_backbone.embeddings.token_type_embeddings.weight",
        "_backbone.embeddings.position_ids",
    ],
)
def test_what_the_authors_model_does_not_use_is_ignored(key):
    model, state = small_model(), {name: value + 1 for name, value in small_model().hf_state_dict().items()}
    model.load_hf_state_dict(state | {key: torch.zeros(2, 12)})
    assert all(torch.equal(value, state[name]) for name, value in model.hf_state_dict().items())


def test_heads_must_divide_the_hidden_size():
    with pytest.raises(ValueError, match="hidden_size 10 .* num_attention_heads 3"):
        BertConfig(20, 10, 1, 3, 16, 10)


def test_paper_sizes_have_30_3_million_parameters():
    with torch.device("meta"):
        model = Bert(BertConfig(2002, 768, 4, 8, 3072, 512))
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(30.3, abs=0.05)


def initialised(seed: int = 0, config: BertConfig = SMALL, embedding_std=0.5, weight_std=0.3) -> Bert:
    model = Bert(config)
    names = [name for name, _ in model.named_parameters()]
    initialise(model, names, torch.Generator().manual_seed(seed), embedding_std, weight_std)
    return model


def test_mask_embedding_is_zero_after_initialise():
    assert torch.equal(initialised().embeddings.word_embeddings.weight[0], torch.zeros(12))


def test_mask_embedding_gets_no_gradient():
    model = initialised()
    model(torch.tensor([[0, 3, 0, 5]])).square().sum().backward()
    gradient = model.embeddings.word_embeddings.weight.grad
    assert torch.equal(gradient[0], torch.zeros(12)) and gradient[3].abs().sum() > 0


WIDE = BertConfig(1001, 64, 2, 4, 128, 300)


@pytest.mark.parametrize(
    ("name", "std"),
    [
        ("embeddings.word_embeddings.weight", 0.02),
        ("embeddings.position_embeddings.weight", 0.02),
        ("layers.0.attention.query_key_value.weight", 0.12),
        ("layers.1.attention.output.weight", 0.12),
        ("layers.0.mlp.intermediate.weight", 0.12),
        ("layers.1.mlp.output.weight", 0.12),
    ],
)
def test_initial_weights_are_normal_with_the_given_deviation(name, std):
    values = initialised(config=WIDE, embedding_std=0.02, weight_std=0.12).get_parameter(name).detach()
    values = values[1:].flatten() if "word" in name else values.flatten()  # not the MASK row
    count = len(values)
    assert abs(values.std().item() / std - 1) < 5 / math.sqrt(2 * count)
    assert abs(values.mean().item() / std) < 5 / math.sqrt(count)
    # The share within one deviation, 0.683, tells a normal law from a uniform one (0.577).
    assert abs((values.abs() < std).double().mean().item() - 0.6827) < 5 * 0.4655 / math.sqrt(count)


def test_initial_layer_norms_are_the_identity_and_biases_are_zero():
    for name, parameter in initialised(config=WIDE).named_parameters():
        if name.startswith("read_out."):
            continue
        if "layer_norm.weight" in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        elif name.endswith("bias"):
            assert torch.equal(parameter, torch.zeros_like(parameter)), name


@pytest.mark.parametrize("name", ["read_out.weight", "read_out.bias"])
def test_read_out_is_uniform_up_to_the_bound_of_a_pytorch_linear(name):
    draws = [initialised(seed).get_parameter(name).detach().flatten() for seed in range(200)]
    values = torch.cat(draws) * math.sqrt(SMALL.hidden_size)
    assert values.abs().max() <= 1
    # A uniform law on [-1, 1] has variance 1/3, with deviation sqrt(4 / 45) of its square.
    assert abs(values.square().mean().item() - 1 / 3) < 5 * math.sqrt(4 / 45 / len(values))


def test_initialise_is_a_function_of_the_generator():
    first, again, other = initialised(3), initialised(3), initialised(4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.read_out.weight, other.read_out.weight)


def test_initialise_leaves_the_global_random_state_alone():
    model = Bert(SMALL)
    before = torch.get_rng_state()
    initialise(model, [name for name, _ in model.named_parameters()], torch.Generator().manual_seed(0), 0.1, 0.1)
    assert torch.equal(torch.get_rng_state(), before)


def test_initialise_touches_only_the_named_parameters():
    model = initialised()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    chosen = {"layers.0.mlp.output.weight", "embeddings.position_embeddings.weight"}
    initialise(model, chosen, torch.Generator().manual_seed(9), 0.1, 0.1)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == chosen


def test_initialise_leaves_the_mask_embedding_of_other_weights_alone():
    model = initialised()
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[0] = 1.0
    initialise(model, ["layers.0.mlp.output.weight"], torch.Generator().manual_seed(9), 0.1, 0.1)
    assert torch.equal(model.embeddings.word_embeddings.weight[0], torch.ones(12))


def test_hooks_see_the_tensors_that_they_are_documented_to_see(case):
    _, model, tokens, _ = case
    seen = {"attention_weights": {}, "context": {}, "hidden": {}}

    def looking(place):
        def hook(layer, tensor):
            seen[place][layer] = tensor
            return tensor

        return hook

    prediction = model.forward_with_hooks(tokens, Hooks(**{place: looking(place) for place in seen}))
    config, (batch, length) = model.config, tokens.shape
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    torch.testing.assert_close(prediction, model(tokens), atol=1e-5, rtol=0)
    assert [len(layers_seen) for layers_seen in seen.values()] == [layers, layers, layers + 1]
    assert seen["context"][0].shape == (batch, heads, length, config.hidden_size // heads)
    torch.testing.assert_close(seen["hidden"][0], model.embeddings(tokens))
    torch.testing.assert_close(model.read_out(seen["hidden"][layers]).squeeze(-1), prediction)


@pytest.mark.parametrize("place", Hooks._fields)
def test_a_hook_at_any_place_changes_the_prediction(case, place):
    _, model, tokens, _ = case
    changed = model.forward_with_hooks(tokens, Hooks(**{place: lambda layer, tensor: tensor * 0.5}))
    assert not torch.allclose(changed, model(tokens), atol=1e-3)


def test_attention_on_a_cpu_has_the_values_and_gradients_of_pytorchs_own(case):
    _, model, _, _ = case
    heads, hidden_size = model.config.num_attention_heads, model.config.hidden_size
    generator = torch.Generator().manual_seed(0)
    projected = torch.randn(3, 5, 3 * hidden_size, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(3, 5, hidden_size, generator=generator, dtype=torch.float64)
    theirs, ours = fused_attention(projected, heads), CpuAttention.apply(projected, heads)
    torch.testing.assert_close(ours, theirs)
    (expected,), (found,) = (torch.autograd.grad(output, projected, upstream) for output in (theirs, ours))
    torch.testing.assert_close(found, expected)


def test_off_the_cpu_attention_is_pytorchs_own(case, monkeypatch):
    _, model, tokens, _ = case
    monkeypatch.setattr(CpuAttention, "apply", None)
    assert model.to("meta")(tokens.to("meta")).shape == tokens.shape


def constants(model, length, value=0.0):
    """(layers, heads, query T, key T), all of one value."""
    return torch.full((model.config.num_hidden_layers, model.config.num_attention_heads, length, length), value)


def test_a_bias_and_a_factor_change_the_logits_as_documented(case):
    _, model, tokens, _ = case
    generator = torch.Generator().manual_seed(2)
    bias = torch.randn(constants(model, tokens.shape[1]).shape, generator=generator)
    factor = 1 + torch.rand(bias.shape, generator=generator)
    model.set_attention_logits(bias, factor)
    prediction, weights = model.forward_with_attention(tokens)
    attention = model.layers[0].attention
    query, key, _ = split_heads(attention.query_key_value(model.embeddings(tokens)), attention.num_heads)
    logits = factor[0] * torch.einsum("bhqd,bhkd->bhqk", query, key) / math.sqrt(query.shape[-1]) + bias[0]
    torch.testing.assert_close(weights[:, 0], torch.softmax(logits, dim=-1))
    torch.testing.assert_close(prediction, model(tokens), atol=1e-5, rtol=0)


def test_constants_that_change_nothing_leave_predictions_and_gradients_as_they_are(case):
    _, model, tokens, target = case
    seen = []
    for constant in ({}, {"bias": constants(model, tokens.shape[1]), "factor": constants(model, tokens.shape[1], 1.0)}):
        model.set_attention_logits(**constant)
        prediction = model(tokens)
        gradients = torch.autograd.grad(((prediction - target) ** 2).mean(), list(model.parameters()))
        seen.append([prediction, *gradients])
    for usual, explicit in zip(*seen, strict=True):
        torch.testing.assert_close(explicit, usual, atol=1e-5, rtol=1e-4)


def test_a_position_whose_edges_are_blocked_is_seen_by_itself_alone(case):
    _, model, tokens, _ = case
    bias = constants(model, tokens.shape[1])
    bias[:, :, :, 3] = -math.inf
    bias[:, :, 3, 3] = 0
    model.set_attention_logits(bias=bias)
    other = tokens.clone()
    other[:, 3] = other[:, 3] % (model.config.vocab_size - 1) + 1
    changed = (model(tokens) != model(other)).any(0)
    assert changed.nonzero().flatten().tolist() == [3]
    model.set_attention_logits()
    assert (model(tokens) != model(other)).any(0).all()


def test_constants_of_the_logits_are_no_weights():
    model = small_model()
    names, keys = [name for name, _ in model.named_parameters()], list(model.state_dict())
    model.set_attention_logits(bias=constants(model, 10))
    assert [name for name, _ in model.named_parameters()] == names and list(model.state_dict()) == keys


def test_constants_of_the_logits_that_fit_no_model_are_refused():
    model = small_model()
    for shape in ((1, 3, 10, 10), (2, 3, 10, 9), (2, 3, 10)):
        with pytest.raises(ValueError, match=r"factor of attention logits.*\(layers 2, heads 3"):
            model.set_attention_logits(factor=torch.ones(shape))
    bias = constants(model, 10)
    bias[1, 2, 5] = -math.inf
    with pytest.raises(ValueError, match="-inf at every position"):
        model.set_attention_logits(bias=bias)
