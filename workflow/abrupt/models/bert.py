"""The model: a BERT encoder that reads the entries of a matrix and predicts each of them (the paper's set-up).

It computes the same function as Hugging Face's `BertModel` (post-LayerNorm, erf-GELU, absolute positions, attention to
every position), but it has no token types, no pooler and no dropout. A linear read-out follows.
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
LONGEST_FOR_CPU = 64  # positions; PyTorch's attention is faster for longer sequences, on a CPU too


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a model. Raises ValueError if `num_attention_heads` does not divide `hidden_size`."""

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
    """Return `tensor` as it is. This is the hook that does nothing."""
    return tensor


class Hooks(NamedTuple):
    """Functions that a forward pass calls at three places.

    Each is called with (layer, tensor), where layers count from 0, and returns the tensor that the pass goes on with. A
    hook that only looks returns the tensor that it was given.

        attention_weights   the weights of a layer after the softmax, (B, heads, query T, key T)
        context             what each head of a layer read, before the output map, (B, heads, T, H / heads)
        hidden              the embeddings as layer 0, then the output of layer l as l + 1, (B, T, H)
    """

    attention_weights: Callable[[int, Tensor], Tensor] = unchanged
    context: Callable[[int, Tensor], Tensor] = unchanged
    hidden: Callable[[int, Tensor], Tensor] = unchanged


class Embeddings(nn.Module):
    """Map token ids (B, T) to the LayerNorm of token plus position embeddings, (B, T, H)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        # padding_idx gives the MASK token a zero embedding that gets no gradient, as in the authors' code.
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=MASK_TOKEN)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)

    def forward(self, token_ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: token_ids.shape[1]]
        return self.layer_norm(self.word_embeddings(token_ids) + positions)


def split_heads(projected: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split projections (B, T, 3H) into query, key and value, each (B, heads, T, H / heads)."""
    return projected.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def fused_attention(projected: Tensor, num_heads: int) -> Tensor:
    """Compute softmax(Q K^T / sqrt(D)) V of all heads by PyTorch's kernel: (B, T, 3H) -> (B, T, H)."""
    return F.scaled_dot_product_attention(*split_heads(projected, num_heads)).transpose(1, 2).flatten(2)


class CpuAttention(torch.autograd.Function):
    """Compute `fused_attention` faster on a CPU, for short sequences and narrow heads.

    The backward pass gains most: the heads are laid out once, and the gradients of Q, K and V are written into one
    tensor. Under autocast the computation stays float32.
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
        context_gradient = gradient.view(batch, length, -1, size).transpose(1, 2).reshape(query.shape)
        weights_gradient = context_gradient @ value.mT
        scores_gradient = torch._softmax_backward_data(weights_gradient, weights, -1, weights.dtype)
        heads_gradient = torch.empty_like(heads)
        torch.baddbmm(heads_gradient[0], scores_gradient, key, beta=0, alpha=size**-0.5, out=heads_gradient[0])
        torch.baddbmm(heads_gradient[1], scores_gradient.mT, query, beta=0, alpha=size**-0.5, out=heads_gradient[1])
        torch.bmm(weights.mT, context_gradient, out=heads_gradient[2])
        projected_gradient = heads_gradient.view(3, batch, -1, length, size).permute(1, 3, 0, 2, 4)
        return projected_gradient.reshape(batch, length, 3 * width), None


class Attention(nn.Module):
    """Multi-head self-attention with residual and LayerNorm: it maps (B, T, H) to (B, T, H)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)
        # `Bert.set_attention_logits` sets these constants, (heads, query T, key T).
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
        """Compute the same output through explicit attention weights, and call the hooks of this `layer`."""
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
    """Two-layer perceptron with erf-GELU, residual and LayerNorm: it maps (B, T, H) to (B, T, H)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.intermediate = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.layer_norm(hidden + self.output(F.gelu(self.intermediate(hidden))))


class Layer(nn.Module):
    """One encoder layer: attention, then the MLP."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = Attention(config)
        self.mlp = Mlp(config)


class Bert(nn.Module):
    """BERT for matrix completion. It maps token ids (B, T), int64, to predicted entries (B, T), float32."""

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
        """Make the attention logits factor * Q K^T / sqrt(D) + bias from now on, in training and evaluation.

        `bias` and `factor` are (layers, heads, query T, key T). They are the same for every matrix of a batch, and
        every input must have this length T. A bias of -inf blocks an edge. Both are constants: they get no gradient,
        and no state dict holds them, so whoever loads the weights must set them again. If both are None, attention is
        the usual one again.

        Raises ValueError for another shape, or if the bias leaves a query no position to attend to.
        """
        sizes = (self.config.num_hidden_layers, self.config.num_attention_heads)
        for name, values in (("bias", bias), ("factor", factor)):
            if values is not None and (values.shape[:2] != sizes or values.dim() != 4 or len({*values.shape[2:]}) > 1):
                raise ValueError(
                    f"the {name} of attention logits has shape {tuple(values.shape)}, not (layers {sizes[0]}, "
                    f"heads {sizes[1]}, query T, key T)"
                )
        if bias is not None and bias.isneginf().all(-1).any():
            raise ValueError("the bias of attention logits is -inf at every position for some query")
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
        """Return the predictions (B, T) of a pass whose intermediate tensors `hooks` see or replace."""
        hidden = hooks.hidden(0, self.embeddings(token_ids))
        for index, layer in enumerate(self.layers):
            hidden = layer.mlp(layer.attention.forward_with_hooks(hidden, index, hooks))
            hidden = hooks.hidden(index + 1, hidden)
        return self.read_out(hidden).squeeze(-1)

    def forward_with_attention(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return predictions (B, T) and attention weights (B, layers, heads, query T, key T)."""
        attention_weights = []

        def keep(layer: int, weights: Tensor) -> Tensor:
            attention_weights.append(weights)
            return weights

        prediction = self.forward_with_hooks(token_ids, Hooks(attention_weights=keep))
        return prediction, torch.stack(attention_weights, dim=1)

    def load_hf_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Load weights under the authors' (Hugging Face's) keys, `_backbone.…` and `read_out.…`.

        Keys of token types, of the pooler and of the position-id buffer are ignored, because the authors' model does
        not use these. Raises KeyError for a missing key and ValueError for an unknown one.
        """
        remaining = {key: value for key, value in state_dict.items() if not _is_unused_by_authors(key)}
        own = {}
        for name, hf_names in hf_names_of(self).items():
            own[name] = torch.cat([remaining.pop(hf_name) for hf_name in hf_names])
        if remaining:
            raise ValueError(f"unknown keys in the state dict: {', '.join(sorted(remaining))}")
        self.load_state_dict(own)

    def hf_state_dict(self) -> dict[str, Tensor]:
        """Return this model's weights under the authors' keys, as `load_hf_state_dict` takes them."""
        own = self.state_dict()
        return {
            hf_name: part.clone()
            for name, hf_names in hf_names_of(self).items()
            for hf_name, part in zip(hf_names, own[name].chunk(len(hf_names)), strict=True)
        }


def build_bert(task: Task, model: dict[str, Any]) -> Bert:
    """Build an uninitialised model for `task` with the sizes in the config's `model` section."""
    return Bert(BertConfig(vocab_size=task.vocab_size, **sizes(model)))


def sizes(model: dict[str, Any]) -> dict[str, int]:
    """Return the fields of a BertConfig in the config's `model` section: every key but the two `..._init_std`."""
    return {key: value for key, value in model.items() if not key.endswith("_init_std")}


def _is_unused_by_authors(key: str) -> bool:
    return any(part in key for part in ("token_type_embeddings", "pooler.", "position_ids"))


def hf_names_of(model: Bert) -> dict[str, list[str]]:
    """Map each parameter's name to the Hugging Face names of the tensors that it joins along dimension 0."""
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

    Embeddings and linear weights are normal with mean 0 and standard deviations `embedding_std` and `weight_std` (both
    are 0.02 in the authors' code). The read-out is drawn as PyTorch draws a Linear. Biases are 0, LayerNorms have
    weight 1 and bias 0, and the MASK token's embedding is 0.
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
