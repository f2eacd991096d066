"""The decoder against Hugging Face's, and its objective against closed forms."""

import math
from dataclasses import replace

import pytest
import torch
from device_reads import DeviceReads
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from abrupt.models.bert import BertConfig
from abrupt.models.gpt import Gpt, build_decoder, initialise
from abrupt.sampling import Batch, make_generator, sample_batch, token_ids
from abrupt.task import Task
from abrupt.training.next_token import NextTokenPrediction, marginal_entropy, mean_attention, sequences

# Every size differs from every other.
CONFIG = BertConfig(
    vocab_size=31,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=50,
    max_position_embeddings=20,
)
TASK = Task(
    rows=3, columns=4, rank=1, mask_probability=0.3, decimals=1, max_value=1, factor_law="uniform", factor_scale=1
)
SEP = 22  # after MASK and the 21 values from -1.0 to 1.0
ENTRIES = 12


def hf_reference() -> GPT2LMHeadModel:
    reference = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=CONFIG.vocab_size,
            n_embd=CONFIG.hidden_size,
            n_layer=CONFIG.num_hidden_layers,
            n_head=CONFIG.num_attention_heads,
            n_inner=CONFIG.intermediate_size,
            n_positions=CONFIG.max_position_embeddings,
            attn_implementation="eager",
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    with torch.no_grad():
        # Biases, LayerNorms and small weights at their defaults would hide a wrong mapping.
        for parameter in reference.parameters():
            parameter.normal_(std=0.3)
    return reference


def with_weights_of(reference: GPT2LMHeadModel) -> Gpt:
    """Our model with Hugging Face's weights; its Conv1D holds a linear map transposed."""
    model, hf = Gpt(CONFIG), reference.transformer
    pairs = {model.token_embeddings: hf.wte, model.position_embeddings: hf.wpe, model.layer_norm: hf.ln_f}
    for own, theirs in zip(model.layers, hf.h, strict=True):
        pairs |= {
            own.attention_layer_norm: theirs.ln_1,
            own.attention.query_key_value: theirs.attn.c_attn,
            own.attention.output: theirs.attn.c_proj,
            own.mlp_layer_norm: theirs.ln_2,
            own.intermediate: theirs.mlp.c_fc,
            own.output: theirs.mlp.c_proj,
        }
    with torch.no_grad():
        for own, theirs in pairs.items():
            own.weight.copy_(theirs.weight.T if isinstance(own, nn.Linear) else theirs.weight)
            if getattr(own, "bias", None) is not None:
                own.bias.copy_(theirs.bias)
    assert {id(module) for module in model.modules() if list(module.parameters(recurse=False))} == set(map(id, pairs))
    return model


@pytest.fixture(scope="module")
def case():
    """Both models with the same weights, and tokens."""
    torch.manual_seed(0)
    reference = hf_reference()
    return reference, with_weights_of(reference), torch.randint(CONFIG.vocab_size, (3, 17))


def initialised(seed=0, std=0.3):
    model = build_decoder(TASK, {key: getattr(CONFIG, key) for key in CONFIG.__dataclass_fields__})
    initialise(model, make_generator(seed, "gpt/init"), embedding_std=std, weight_std=std)
    return model


def test_logits_are_those_of_hugging_face(case):
    reference, model, tokens = case
    torch.testing.assert_close(model(tokens), reference(tokens).logits, atol=1e-4, rtol=1e-5)


def test_attention_weights_are_those_of_hugging_face(case):
    reference, model, tokens = case
    theirs = torch.stack(reference(tokens, output_attentions=True).attentions, dim=1)
    torch.testing.assert_close(model.attention_weights(tokens), theirs, atol=1e-5, rtol=1e-4)


def test_logits_do_not_depend_on_whether_the_weights_are_kept(case):
    _, model, tokens = case
    torch.testing.assert_close(model(tokens, kept_weights=[]), model(tokens), atol=1e-4, rtol=1e-5)


def test_logits_from_a_start_are_the_last_of_all(case):
    _, model, tokens = case
    torch.testing.assert_close(model(tokens, start=5), model(tokens)[:, 5:])


@pytest.mark.parametrize("position", [0, 8, 16])
def test_no_logit_depends_on_a_later_token(case, position):
    _, model, tokens = case
    changed = tokens.clone()
    changed[:, position] = (changed[:, position] + 1) % CONFIG.vocab_size
    difference = (model(changed) - model(tokens)).abs().amax(dim=(0, 2))
    assert (difference[:position] == 0).all() and (difference[position:] > 1e-3).all()


def test_sequence_is_masked_x_separator_and_x_without_its_last_entry():
    batch = sample_batch(TASK, 5, 0, "x")
    tokens, labels = sequences(TASK, batch)
    assert tokens.shape == (5, 2 * ENTRIES)
    assert torch.equal(tokens[:, :ENTRIES], batch.tokens)
    assert (tokens[:, ENTRIES] == SEP).all() and (batch.tokens != SEP).all()
    assert torch.equal(tokens[:, ENTRIES + 1 :], labels[:, :-1])
    assert torch.equal(labels, token_ids(TASK, batch.target).flatten(1))


class Stub(nn.Module):
    """Gives the logits that a function makes of the tokens."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, tokens, start=0):
        return self.logits(tokens)[:, start:]


def copying(tokens):
    """Sure of the token that stands T places before the next, if it is not MASK; else all values as likely."""
    logits = torch.zeros(*tokens.shape, SEP + 1)
    logits[..., [0, SEP]] = -1e4
    copied = tokens[:, :ENTRIES]
    sure = nn.functional.one_hot(copied, SEP + 1) * 1e3 * (copied != 0)[..., None]
    logits[:, ENTRIES:] += sure
    return logits


def evaluated(logits, count=64):
    objective = NextTokenPrediction(TASK)
    (batch,) = objective.eval_batches(count, 0, "cpu")
    values = objective.evaluate(Stub(logits), [batch])
    return batch, dict(zip(objective.eval_columns, values.tolist(), strict=True))


def test_a_model_that_copies_is_right_at_observed_entries_and_at_chance_at_masked_ones():
    batch, measured = evaluated(copying)
    assert measured["eval_cross_entropy_observed"] == pytest.approx(0, abs=1e-6)
    assert measured["eval_accuracy_observed"] == 1
    assert measured["eval_cross_entropy_masked"] == pytest.approx(math.log(21), rel=1e-5)
    assert measured["eval_accuracy_masked"] < 0.2
    # Uniform over symmetric values: the mean is 0.
    assert measured["eval_mse_masked"] == pytest.approx(batch.target[~batch.observed].square().mean().item(), rel=1e-4)


def test_cross_entropy_over_all_entries_is_weighted_by_their_counts():
    batch, measured = evaluated(copying)
    share = (~batch.observed).double().mean().item()
    assert measured["eval_cross_entropy"] == pytest.approx(share * math.log(21), rel=1e-5)


def test_loss_is_the_mean_cross_entropy_of_x_and_its_sums_give_the_columns():
    batch = sample_batch(TASK, 8, 0, "x")
    objective = NextTokenPrediction(TASK)
    loss, sums = objective.loss(Stub(lambda tokens: torch.zeros(*tokens.shape, SEP + 1)), batch)
    assert loss.item() == pytest.approx(math.log(SEP + 1), rel=1e-6)
    assert objective.means(2 * sums)[:3].tolist() == pytest.approx([math.log(SEP + 1)] * 3, rel=1e-6)


def test_a_step_reads_nothing_from_the_device():
    objective, model = NextTokenPrediction(TASK), Gpt(replace(CONFIG, max_position_embeddings=2 * ENTRIES))
    with DeviceReads() as reads:
        loss, _ = objective.loss(model, objective.sample(8, 0, "x", 0, "cpu"))
        loss.backward()
    assert reads.seen == []


def test_means_survive_a_batch_without_masked_entries():
    batch = sample_batch(TASK, 2, 0, "x")
    batch = Batch(token_ids(TASK, batch.target).flatten(1), batch.target, torch.ones_like(batch.observed))
    objective = NextTokenPrediction(TASK)
    means = dict(zip(objective.columns, objective.means(objective.loss(Stub(copying), batch)[1]).tolist(), strict=True))
    assert means["accuracy_observed"] == 1 and math.isnan(means["cross_entropy_masked"])


def test_entropy_of_the_marginal_law_by_hand():
    tokens = torch.tensor([[1, 1, 5, 7]])
    assert marginal_entropy(tokens).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))


def test_mean_attention_does_not_depend_on_the_chunks():
    model, batch = initialised(), sample_batch(TASK, 40, 0, "x")
    tokens, _ = sequences(TASK, batch)
    mean = mean_attention(model, TASK, batch)
    assert mean.shape == (2, 3, 2 * ENTRIES, 2 * ENTRIES)
    torch.testing.assert_close(mean, model.attention_weights(tokens).mean(0), atol=1e-6, rtol=1e-5)


def test_attention_weights_add_up_to_one_and_none_is_on_the_future():
    mean = mean_attention(initialised(), TASK, sample_batch(TASK, 4, 0, "x"))
    torch.testing.assert_close(mean.sum(-1), torch.ones(mean.shape[:-1]))
    assert (mean.triu(1) == 0).all()


def test_initialise_draws_each_kind_of_parameter_by_its_law():
    model = initialised(std=0.05)
    for name, parameter in model.named_parameters():
        if "layer_norm" in name:
            assert (parameter == float(name.endswith("weight"))).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        else:
            assert abs(parameter.std().item() / 0.05 - 1) < 5 / math.sqrt(2 * parameter.numel()), name


def test_initialise_is_a_function_of_the_generator():
    first, again, other = (list(initialised(seed).parameters()) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
