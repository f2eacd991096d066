"""Activation patching: the model reads a matrix X, but some of its activations are those that it has on -X.

Both inputs have the same mask, so the MASK tokens stay and every value changes its sign. An effect says how far a patch
moves the predictions from those on X (clean) to those on -X (the donor's). The authors' released script patches the
context vectors of the last layer. This analysis patches every layer and every head.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from abrupt.analyses import per_checkpoint, ratio_of_sums
from abrupt.models.bert import Bert, Hooks
from abrupt.sampling import Batch, tokenise
from abrupt.task import Task


class Activations(NamedTuple):
    """The prediction (B, T) of one forward pass, and the tensors of each layer that the hooks of the same names see."""

    prediction: Tensor
    context: list[Tensor]
    hidden: list[Tensor]


def record(model: Bert, tokens: Tensor) -> Activations:
    """Run `model` on `tokens` (B, T) and return its activations."""
    context, hidden = [], []

    def keep(kept: list[Tensor], tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    hooks = Hooks(context=lambda _, tensor: keep(context, tensor), hidden=lambda _, tensor: keep(hidden, tensor))
    return Activations(model.forward_with_hooks(tokens, hooks), context, hidden)


def patch_hidden(donor: Activations, layer: int, positions: Tensor) -> Hooks:
    """Return hooks that take the hidden states after `layer` from `donor` at `positions`, bool (B, T).

    Layer 0 means the embeddings.
    """

    def hidden(at: int, own: Tensor) -> Tensor:
        return torch.where(positions[..., None], donor.hidden[at], own) if at == layer else own

    return Hooks(hidden=hidden)


def patch_context(donor: Activations, heads: Tensor) -> Hooks:
    """Return hooks that take the context vectors of the chosen `heads`, bool (layers, heads), from `donor`."""
    return Hooks(context=lambda layer, own: torch.where(heads[layer][:, None, None], donor.context[layer], own))


def patches(model: Bert, batch: Batch, donor: Activations) -> Iterator[tuple[dict, Hooks]]:
    """Yield every patch: the columns that name it in the table, and its hooks."""
    observed = batch.observed.flatten(1)
    for layer in range(len(donor.hidden)):
        for entries, positions in {"observed": observed, "masked": ~observed}.items():
            yield {"site": f"hidden_{entries}", "layer": layer}, patch_hidden(donor, layer, positions)
    none = torch.zeros(len(donor.context), donor.context[0].shape[1], dtype=torch.bool, device=model.device)
    for layer in range(len(none)):
        whole_layer = none.clone()
        whole_layer[layer] = True
        yield {"site": "attention", "layer": layer + 1}, patch_context(donor, whole_layer)
        for head in range(len(none[layer])):
            single_head = none.clone()
            single_head[layer, head] = True
            yield {"site": "head", "layer": layer + 1, "head": head + 1}, patch_context(donor, single_head)
    yield {"site": "all_attention"}, patch_context(donor, ~none)


def effects(patched: Tensor, clean: Tensor, donor: Tensor, observed: Tensor) -> dict[str, float]:
    """Return how far the predictions `patched` have moved from `clean` to `donor`. All arguments are (B, T).

    There are three values for each of two groups of entries, masked and observed:

        effect_<entries>      sum (patched - clean)(donor - clean) / sum (donor - clean)^2, which is 0 for the clean
                              prediction, 1 for the donor's, and nan if these do not differ
        effect_<entries>_se   the standard error of the effect over matrices
        difference_<entries>  the root mean square of donor - clean
    """
    result = {}
    for name, chosen in {"masked": ~observed, "observed": observed}.items():
        way = (donor - clean) * chosen
        effect, error = ratio_of_sums(((patched - clean) * way).sum(1), (way**2).sum(1))
        difference = ratio_of_sums((way**2).sum(1), chosen.sum(1))[0] ** 0.5
        result |= {f"effect_{name}": effect, f"effect_{name}_se": error, f"difference_{name}": difference}
    return result


@torch.no_grad()
def patch(model: Bert, task: Task, batch: Batch) -> pd.DataFrame:
    """Return one row for each patch, with the columns of `effects`.

    The column `site` says what is patched:

        hidden_observed  the hidden states at observed entries after `layer` (0 means the embeddings)
        hidden_masked    the hidden states at masked entries after `layer`
        attention        what all heads of `layer` (from 1) read, at every entry
        head             what one `head` (from 1) of `layer` reads, at every entry
        all_attention    what all heads of all layers read, at every entry
    """
    clean = model(batch.tokens)
    donor = record(model, tokenise(task, -batch.target, batch.observed))
    observed = batch.observed.flatten(1)
    rows = [
        {**columns, **effects(model.forward_with_hooks(batch.tokens, hooks), clean, donor.prediction, observed)}
        for columns, hooks in patches(model, batch, donor)
    ]
    table = pd.DataFrame(rows).astype({"layer": "Int64", "head": "Int64"})
    return table[["site", "layer", "head", *table.columns.drop(["site", "layer", "head"])]]


measure = per_checkpoint(patch)
