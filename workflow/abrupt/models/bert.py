"""The model: a BERT encoder over matrix entries with a linear read-out (the paper's set-up).

Same maths as Hugging Face's `BertModel` (post-LayerNorm, erf-GELU, absolute positions, attention to
every position) without token types, pooler and dropout.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from abrupt.task import MASK_TOKEN, Task

LAYER_NORM_EPS = 1e-12
LONGEST_FOR_CPU = 64  # positions; for more, PyTorch's attention takes less time on a CPU too


@dataclass(frozen=True)
class BertConfig:
    """Sizes of the model; raises ValueError if the heads do not divide `hidden_size`."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int

    def __post_init__(self):
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}"
            )


def unchanged(layer: int, tensor: Tensor) -> Tensor:
    return tensor


class Hooks(NamedTuple):
    """What to do at three places of a forward pass: each is called with (layer, tensor), layers counted
    from 0, and returns the tensor to go on with. A hook that only looks returns what it was given.

    attention_weights: (B, heads, query T, key T) of each layer, after the softmax.
    context: (B, heads, T, H / heads) of each layer, what each head read, before the output map.
    hidden: (B, T, H), the embeddings as layer 0, then the output of each layer l as l + 1.
    """

    attention_weights: Callable[[int, Tensor], Tensor] = unchanged
    context: Callable[[int, Tensor], Tensor] = unchanged
    hidden: Callable[[int, Tensor], Tensor] = unchanged


class Embeddings(nn.Module):
    """Token plus position embeddings, then LayerNorm: (B, T) ids -> (B, T, H)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        # padding_idx: the MASK token's embedding is zero and gets no gradient, as in the authors' code.
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=MASK_TOKEN)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)

    def forward(self, token_ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: token_ids.shape[1]]
        return self.layer_norm(self.word_embeddings(token_ids) + positions)


def split_heads(projected: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key, value, each (B, heads, T, H / heads), of their projections (B, T, 3H)."""
    return projected.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def fused_attention(projected: Tensor, num_heads: int) -> Tensor:
    """softmax(Q K^T / sqrt(D)) V of all heads by PyTorch's kernel: (B, T, 3H) -> contexts (B, T, H)."""
    return F.scaled_dot_product_attention(*split_heads(projected, num_heads)).transpose(1, 2).flatten(2)


class CpuAttention(torch.autograd.Function):
    """`fused_attention` in less time for short sequences and narrow heads on a CPU, most of all backward:
    heads are laid out once, and the gradients of Q, K and V written into one tensor. Always in full precision.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, projected: Tensor, num_heads: int) -> Tensor:
        batch, length, width = projected.shape
        size = width // 3 // num_heads
        heads = projected.view(batch, length, 3, num_heads, size).permute(2, 0, 3, 1, 4)
        heads = heads.reshape(3, batch * num_heads, length, size)
        query, key, value = heads.unbind(0)
        scores = torch.baddbmm(query.new_empty(()), query, key.mT, beta=0, alpha=size**-0.5)
        weights = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(heads, weights)
        context = (weights @ value).view(batch, num_heads, length, size)
        return context.transpose(1, 2).reshape(batch, length, width // 3)

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        heads, weights = ctx.saved_tensors
        query, key, value = heads.unbind(0)
        batch, length, width = gradient.shape
        size = heads.shape[-1]
        of_context = gradient.view(batch, length, -1, size).transpose(1, 2).reshape(query.shape)
        of_weights = of_context @ value.mT
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_heads = torch.empty_like(heads)
        torch.baddbmm(of_heads[0], of_scores, key, beta=0, alpha=size**-0.5, out=of_heads[0])
        torch.baddbmm(of_heads[1], of_scores.mT, query, beta=0, alpha=size**-0.5, out=of_heads[1])
        torch.bmm(weights.mT, of_context, out=of_heads[2])
        of_projected = of_heads.view(3, batch, -1, length, size).permute(1, 3, 0, 2, 4)
        return of_projected.reshape(batch, length, 3 * width), None


class Attention(nn.Module):
    """Multi-head self-attention, residual, LayerNorm: (B, T, H) -> (B, T, H)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)
        # Constants (heads, query T, key T) that the logits are multiplied with and increased by, if there are any.
        self.register_buffer("logit_factor", None, persistent=False)
        self.register_buffer("logit_bias", None, persistent=False)

    def _add(self, hidden: Tensor, context: Tensor) -> Tensor:
        return self.layer_norm(hidden + self.output(context))

    def forward(self, hidden: Tensor) -> Tensor:
        if self.logit_factor is not None or self.logit_bias is not None:
            return self.forward_with_hooks(hidden, 0, Hooks())
        on_cpu = hidden.device.type == "cpu" and hidden.shape[1] <= LONGEST_FOR_CPU
        attend = CpuAttention.apply if on_cpu else fused_attention
        return self._add(hidden, attend(self.query_key_value(hidden), self.num_heads))

    def forward_with_hooks(self, hidden: Tensor, layer: int, hooks: Hooks) -> Tensor:
        """The same output through explicit attention weights, with the hooks of this layer."""
        query, key, value = split_heads(self.query_key_value(hidden), self.num_heads)
        logits = query @ key.mT / math.sqrt(query.shape[-1])
        if self.logit_factor is not None:
            logits = logits * self.logit_factor
        if self.logit_bias is not None:
            logits = logits + self.logit_bias
        weights = torch.softmax(logits, dim=-1)
        context = hooks.context(layer, hooks.attention_weights(layer, weights) @ value)
        return self._add(hidden, context.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two-layer perceptron with erf-GELU, residual, LayerNorm: (B, T, H) -> (B, T, H)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.intermediate = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.layer_norm(hidden + self.output(F.gelu(self.intermediate(hidden))))


class Layer(nn.Module):
    """One encoder layer: attention, then MLP."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = Attention(config)
        self.mlp = Mlp(config)


class Bert(nn.Module):
    """BERT for matrix completion: token ids (B, T) int64 -> predicted entries (B, T) float32."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.read_out = nn.Linear(config.hidden_size, 1)

    @property
    def device(self) -> torch.device:
        return self.read_out.weight.device

    def set_attention_logits(self, bias: Tensor | None = None, factor: Tensor | None = None) -> None:
        """From now on, in training and evaluation, attention logits are factor * Q K^T / sqrt(D) + bias.

        Both are (layers, heads, query T, key T), the same for every matrix of a batch, and inputs have that length T.
        A bias of -inf blocks an edge. Both are constants: they get no gradient and are in no state dict, so who loads
        the weights sets them again. If both are None, attention is the usual one again.
        Raises ValueError for another shape, or if a query may attend to no position.
        """
        sizes = (self.config.num_hidden_layers, self.config.num_attention_heads)
        for name, values in (("bias", bias), ("factor", factor)):
            if values is not None and (values.shape[:2] != sizes or values.dim() != 4 or len({*values.shape[2:]}) > 1):
                raise ValueError(
                    f"the {name} of attention logits has shape {tuple(values.shape)}, not (layers {sizes[0]}, "
                    f"heads {sizes[1]}, query T, key T)"
                )
        if bias is not None and bias.isneginf().all(-1).any():
            raise ValueError("the bias of attention logits is -inf at every position that a query may attend to")
        for index, layer in enumerate(self.layers):
            for name, values in (("logit_bias", bias), ("logit_factor", factor)):
                constant = None if values is None else values[index].detach().to(self.read_out.weight, copy=True)
                setattr(layer.attention, name, constant)

    def forward(self, token_ids: Tensor) -> Tensor:
        hidden = self.embeddings(token_ids)
        for layer in self.layers:
            hidden = layer.mlp(layer.attention(hidden))
        return self.read_out(hidden).squeeze(-1)

    def forward_with_hooks(self, token_ids: Tensor, hooks: Hooks) -> Tensor:
        """Predictions (B, T), with intermediate tensors seen or replaced by `hooks`."""
        hidden = hooks.hidden(0, self.embeddings(token_ids))
        for index, layer in enumerate(self.layers):
            hidden = layer.mlp(layer.attention.forward_with_hooks(hidden, index, hooks))
            hidden = hooks.hidden(index + 1, hidden)
        return self.read_out(hidden).squeeze(-1)

    def forward_with_attention(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions (B, T) and attention weights (B, layers, heads, query T, key T)."""
        attention_weights = []

        def keep(layer: int, weights: Tensor) -> Tensor:
            attention_weights.append(weights)
            return weights

        prediction = self.forward_with_hooks(token_ids, Hooks(attention_weights=keep))
        return prediction, torch.stack(attention_weights, dim=1)

    def load_hf_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Load weights under the authors' (Hugging Face's) keys, `_backbone.…` and `read_out.…`.

        Token types, pooler and the position-id buffer are ignored: the authors' model uses none of
        them. Raises KeyError for a missing key, ValueError for an unknown one.
        """
        remaining = {key: value for key, value in state_dict.items() if not _is_unused_by_authors(key)}
        own = {}
        for name, hf_names in hf_names_of(self).items():
            own[name] = torch.cat([remaining.pop(hf_name) for hf_name in hf_names])
        if remaining:
            raise ValueError(f"unknown keys in the state dict: {', '.join(sorted(remaining))}")
        self.load_state_dict(own)

    def hf_state_dict(self) -> dict[str, Tensor]:
        """This model's weights under the authors' keys: the inverse of `load_hf_state_dict`."""
        own = self.state_dict()
        return {
            hf_name: part.clone()
            for name, hf_names in hf_names_of(self).items()
            for hf_name, part in zip(hf_names, own[name].chunk(len(hf_names)), strict=True)
        }


def build_bert(task: Task, model: dict[str, Any]) -> Bert:
    """An uninitialised model for `task`, of the sizes in the config's `model` section."""
    return Bert(BertConfig(vocab_size=task.vocab_size, **sizes(model)))


def sizes(model: dict[str, Any]) -> dict[str, int]:
    """The fields of a BertConfig in the config's `model` section: all but what the weights are drawn with."""
    return {key: value for key, value in model.items() if not key.endswith("_init_std")}


def _is_unused_by_authors(key: str) -> bool:
    return any(part in key for part in ("token_type_embeddings", "pooler.", "position_ids"))


def hf_names_of(model: Bert) -> dict[str, list[str]]:
    """For each parameter, the Hugging Face names whose tensors it holds, joined along dimension 0."""
    return {name: _hf_names(name) for name, _ in model.named_parameters()}


def _hf_names(name: str) -> list[str]:
    if name.startswith("read_out."):
        return [name]
    name = name.replace("layer_norm", "LayerNorm")
    if name.startswith("embeddings."):
        return [f"_backbone.{name}"]
    _, index, sublayer, rest = name.split(".", 3)
    prefix = f"_backbone.encoder.layer.{index}"
    if rest.startswith("query_key_value."):
        suffix = rest.removeprefix("query_key_value.")
        return [f"{prefix}.attention.self.{part}.{suffix}" for part in ("query", "key", "value")]
    rest = rest.replace("output.", "output.dense.").replace("LayerNorm", "output.LayerNorm")
    if sublayer == "attention":
        return [f"{prefix}.attention.{rest}"]
    return [f"{prefix}.{rest.replace('intermediate.', 'intermediate.dense.')}"]


@torch.no_grad()
def initialise(
    model: Bert, names: Iterable[str], generator: torch.Generator, embedding_std: float, weight_std: float
) -> None:
    """Draw the parameters called `names` afresh from a CPU `generator`, in the model's own order.

    Embeddings ~ N(0, embedding_std), linear weights ~ N(0, weight_std), biases 0, LayerNorm 1 and 0,
    the MASK token's embedding 0; the read-out as PyTorch draws a Linear. Paper: 0.02 for both.
    """
    chosen = set(names)
    read_out_bound = 1 / math.sqrt(model.config.hidden_size)
    for name, parameter in model.named_parameters():
        if name not in chosen:
            continue
        if name.startswith("read_out."):
            value = (torch.rand(parameter.shape, generator=generator) * 2 - 1) * read_out_bound
        elif "layer_norm" in name:
            value = torch.full(parameter.shape, float(name.endswith("weight")))
        elif name.endswith("bias"):
            value = torch.zeros(parameter.shape)
        else:
            std = embedding_std if name.startswith("embeddings.") else weight_std
            value = torch.randn(parameter.shape, generator=generator) * std
        if "word_embeddings" in name:
            value[MASK_TOKEN] = 0
        parameter.copy_(value)
