"""The decoder, which predicts the next token (paper, Figures 11 and 12).

It computes the same function as Hugging Face's `GPT2LMHeadModel` (pre-LayerNorm, tanh-GELU, learned positions, causal
attention, a read-out tied to the token embeddings), but it has no dropout.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abrupt.models.bert import BertConfig, sizes, split_heads
from abrupt.task import Task

LAYER_NORM_EPS = 1e-5


class CausalAttention(nn.Module):
    """Multi-head self-attention to a position and to those before it: it maps (B, T, H) to (B, T, H)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, kept_weights: list[Tensor] | None) -> Tensor:
        """Return (B, T, H). If `kept_weights` is a list, append the weights (B, heads, query T, key T) to it."""
        query, key, value = split_heads(self.query_key_value(hidden), self.num_heads)
        if kept_weights is None:
            context = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            length = hidden.shape[1]
            future = torch.ones(length, length, dtype=torch.bool, device=hidden.device).triu(1)
            scores = query @ key.mT / math.sqrt(query.shape[-1])
            weights = torch.softmax(scores.masked_fill(future, -math.inf), dim=-1)
            kept_weights.append(weights)
            context = weights @ value
        return self.output(context.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """One decoder layer: attention, then the MLP. Each reads a LayerNorm of the residual stream and adds to it."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention_layer_norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)
        self.attention = CausalAttention(config)
        self.mlp_layer_norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)
        self.intermediate = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor, kept_weights: list[Tensor] | None) -> Tensor:
        hidden = hidden + self.attention(self.attention_layer_norm(hidden), kept_weights)
        inner = F.gelu(self.intermediate(self.mlp_layer_norm(hidden)), approximate="tanh")
        return hidden + self.output(inner)


class Gpt(nn.Module):
    """The decoder. It maps token ids (B, T), int64, to logits of the next token (B, T, vocabulary), float32."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.token_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)

    def forward(self, token_ids: Tensor, start: int = 0, kept_weights: list[Tensor] | None = None) -> Tensor:
        """Return the logits from position `start` on, (B, T - start, vocabulary).

        If `kept_weights` is a list, append each layer's attention weights (B, heads, query T, key T) to it.
        """
        hidden = self.token_embeddings(token_ids) + self.position_embeddings.weight[: token_ids.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, kept_weights)
        return self.layer_norm(hidden[:, start:]) @ self.token_embeddings.weight.mT

    def attention_weights(self, token_ids: Tensor) -> Tensor:
        """Return the weights of every layer and head, (B, layers, heads, query T, key T), zero above the diagonal."""
        weights: list[Tensor] = []
        self(token_ids, kept_weights=weights)
        return torch.stack(weights, dim=1)


def build_decoder(task: Task, model: dict[str, Any]) -> Gpt:
    """Build an uninitialised decoder with the sizes in the config's `model` section.

    Its vocabulary is the task's tokens and SEP. Its sequences are twice as long as a matrix has entries.
    """
    own = {"vocab_size": task.vocab_size + 1, "max_position_embeddings": 2 * task.num_entries}
    return Gpt(BertConfig(**{**sizes(model), **own}))


@torch.no_grad()
def initialise(model: Gpt, generator: torch.Generator, embedding_std: float, weight_std: float) -> None:
    """Draw all parameters from a CPU `generator`.

    Embeddings and linear weights are normal with mean 0 and standard deviations `embedding_std` and `weight_std` (both
    are 0.02 in GPT-2). Biases are 0, and LayerNorms have weight 1 and bias 0.
    """
    for name, parameter in model.named_parameters():
        if "layer_norm" in name:
            parameter.fill_(float(name.endswith("weight")))
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            std = embedding_std if "embeddings" in name else weight_std
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
