"""The components of the model and their parameters (paper, Figure 8).

| part                 | parameters                                                             |
|----------------------|------------------------------------------------------------------------|
| token_embedding      | the token embedding table                                              |
| position_embedding   | the position embedding table                                           |
| embedding_layer_norm | the LayerNorm after their sum                                          |
| attention            | every layer's query, key, value and output map, and the LayerNorm after |
| mlp                  | every layer's two linear maps, and the LayerNorm after                 |
| read_out             | the linear map from hidden states to entries                           |

Every parameter is in exactly one of the six parts. The paper does not say where the LayerNorms belong: here each goes
with the sub-layer before it. A component run trains one or more parts and freezes the others. The authors' released
script trains the parts of `both_embeddings`.
"""

import copy
from collections.abc import Iterable

from torch import nn

PART_PATTERNS = {
    "token_embedding": ("embeddings.word_embeddings.",),
    "position_embedding": ("embeddings.position_embeddings.",),
    "embedding_layer_norm": ("embeddings.layer_norm.",),
    "attention": (".attention.",),
    "mlp": (".mlp.",),
    "read_out": ("read_out.",),
}

# Each component run re-initialises and trains these parts.
COMPONENTS = {
    "token_embedding": ("token_embedding",),
    "position_embedding": ("position_embedding",),
    "attention": ("attention",),
    "mlp": ("mlp",),
    "both_embeddings": ("token_embedding", "position_embedding", "embedding_layer_norm"),
}


def parameter_names(model: nn.Module, parts: Iterable[str]) -> list[str]:
    """Return the names of the parameters in `parts`, in the model's order. Raises KeyError for an unknown part."""
    patterns = [pattern for part in parts for pattern in PART_PATTERNS[part]]
    return [name for name, _ in model.named_parameters() if any(pattern in name for pattern in patterns)]


def freeze_all_but(model: nn.Module, trainable: Iterable[str]) -> None:
    """Compute gradients for the parameters called `trainable` and for no others."""
    trainable = set(trainable)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trainable)


def give_parts(model: nn.Module, donor: nn.Module, parts: Iterable[str]) -> None:
    """Copy the values of `parts` from `donor`, a model of the same sizes, into `model`.

    The other parts keep their values. The trainer trains the copied parts like the others, unless it is told to train
    only `names_outside` them. Raises KeyError for an unknown part and RuntimeError if the sizes differ.
    """
    values = donor.state_dict()
    model.load_state_dict({name: values[name] for name in parameter_names(model, parts)}, strict=False)


def names_outside(model: nn.Module, parts: Iterable[str]) -> list[str]:
    """Return the names of the parameters in none of `parts`, in the model's order.

    A run that freezes `parts` trains these. Raises KeyError for an unknown part.
    """
    inside = set(parameter_names(model, parts))
    return [name for name, _ in model.named_parameters() if name not in inside]


def with_parts_of(model: nn.Module, donor: nn.Module, parts: Iterable[str]) -> nn.Module:
    """Return a copy of `model` whose `parts` have the values of `donor`, a model of the same sizes.

    Raises KeyError for an unknown part and RuntimeError if the sizes differ.
    """
    mixed = copy.deepcopy(model)
    give_parts(mixed, donor, parts)
    return mixed
