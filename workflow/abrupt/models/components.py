"""Which parameters belong to which component of the model (paper, Figure 8).

| part                 | parameters                                                             |
|----------------------|------------------------------------------------------------------------|
| token_embedding      | the token embedding table                                              |
| position_embedding   | the position embedding table                                           |
| embedding_layer_norm | the LayerNorm after their sum                                          |
| attention            | every layer's query, key, value and output map, and the LayerNorm after |
| mlp                  | every layer's two linear maps, and the LayerNorm after                 |
| read_out             | the linear map from hidden states to entries                           |

The six parts are a partition. Where the LayerNorms belong is not stated in the paper: here each goes
with the sub-layer it follows. A component run trains one or more parts and freezes the others;
`both_embeddings` is what the authors' released script trains.
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

# What each component run re-initialises and trains.
COMPONENTS = {
    "token_embedding": ("token_embedding",),
    "position_embedding": ("position_embedding",),
    "attention": ("attention",),
    "mlp": ("mlp",),
    "both_embeddings": ("token_embedding", "position_embedding", "embedding_layer_norm"),
}


def parameter_names(model: nn.Module, parts: Iterable[str]) -> list[str]:
    """Names of the parameters in `parts`, in the model's order. Raises KeyError for an unknown part."""
    patterns = [pattern for part in parts for pattern in PART_PATTERNS[part]]
    return [name for name, _ in model.named_parameters() if any(pattern in name for pattern in patterns)]


def freeze_all_but(model: nn.Module, trainable: Iterable[str]) -> None:
    """Compute gradients for the parameters called `trainable` and for no others."""
    trainable = set(trainable)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trainable)


def give_parts(model: nn.Module, donor: nn.Module, parts: Iterable[str]) -> None:
    """Let `model` start with the values that `donor`, a model of the same sizes, has in `parts`.

    They are trained like the others unless they are left out of what the trainer calls trainable: see
    `names_outside`. After `initialise` of the whole model the other parts are those of a run without gifts.
    Raises RuntimeError if the sizes differ.
    """
    values = donor.state_dict()
    model.load_state_dict({name: values[name] for name in parameter_names(model, parts)}, strict=False)


def names_outside(model: nn.Module, parts: Iterable[str]) -> list[str]:
    """Names of the parameters in none of `parts`, in the model's order: what is trained if `parts` are frozen.
    Raises KeyError for an unknown part."""
    inside = set(parameter_names(model, parts))
    return [name for name, _ in model.named_parameters() if name not in inside]


def with_parts_of(model: nn.Module, donor: nn.Module, parts: Iterable[str]) -> nn.Module:
    """A copy of `model` in which `parts` have the values they have in `donor`, a model of the same sizes."""
    mixed = copy.deepcopy(model)
    give_parts(mixed, donor, parts)
    return mixed
