"""Activation patching: the model reads X, but some of its activations are those that it has on -X.

Both inputs have the same mask, so that the MASK tokens are the same and all else has the other sign. What a patch
does is measured on the line from the clean prediction (on X) to the donor's (on -X). The authors' released script
patches the last layer's context vectors; here it is every layer and every head.
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
    """What one forward pass held, by layer: `context` and `hidden` as in Hooks; prediction (B, T)."""

    prediction: Tensor
    context: list[Tensor]
    hidden: list[Tensor]


def record(model: Bert, tokens: Tensor) -> Activations:
    """The activations of `model` on `tokens` (B, T)."""
    context, hidden = [], []

    def keep(kept: list[Tensor], tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    hooks = Hooks(context=lambda _, tensor: keep(context, tensor), hidden=lambda _, tensor: keep(hidden, tensor))
    return Activations(model.forward_with_hooks(tokens, hooks), context, hidden)


def patch_hidden(donor: Activations, layer: int, positions: Tensor) -> Hooks:
    """Hooks that take the hidden states after `layer` (0: the embeddings) from `donor` at `positions`, bool (B, T)."""

    def hidden(at: int, own: Tensor) -> Tensor:
        return torch.where(positions[..., None], donor.hidden[at], own) if at == layer else own

    return Hooks(hidden=hidden)


def patch_context(donor: Activations, heads: Tensor) -> Hooks:
    """Hooks that take the context vectors of the chosen `heads`, bool (layers, heads), from `donor`."""
    return Hooks(context=lambda layer, own: torch.where(heads[layer][:, None, None], donor.context[layer], own))


def patches(model: Bert, batch: Batch, donor: Activations) -> Iterator[tuple[dict, Hooks]]:
    """Every patch: its columns of the table, and its hooks."""
    observed = batch.observed.flatten(1)
    for layer in range(len(donor.hidden)):
        for entries, positions in {"observed": observed, "masked": ~observed}.items():
            yield {"site": f"hidden_{entries}", "layer": layer}, patch_hidden(donor, layer, positions)
    none = torch.zeros(len(donor.context), donor.context[0].shape[1], dtype=torch.bool, device=model.device)
    for layer in range(len(none)):
        of_layer = none.clone()
        of_layer[layer] = True
        yield {"site": "attention", "layer": layer + 1}, patch_context(donor, of_layer)
        for head in range(len(none[layer])):
            of_head = none.clone()
            of_head[layer, head] = True
            yield {"site": "head", "layer": layer + 1, "head": head + 1}, patch_context(donor, of_head)
    yield {"site": "all_attention"}, patch_context(donor, ~none)


def effects(patched: Tensor, clean: Tensor, donor: Tensor, observed: Tensor) -> dict[str, float]:
    """How far the predictions `patched` are on the way from `clean` to `donor`, all (B, T).

    effect_<entries> = sum (patched - clean)(donor - clean) / sum (donor - clean)^2 over the masked or the observed
    entries: 0 for the clean prediction, 1 for the donor's, nan if these do not differ. With its standard error over
    matrices, <name>_se, and difference_<entries>, the root mean square of donor - clean.
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
    """One row a patch, with the columns of `effects`.

    site and layer say what is patched: `hidden_observed` and `hidden_masked` the hidden states at the observed or
    the masked entries after a layer (0: the embeddings), `attention` what all heads of a layer (from 1) read at
    every entry, `head` what one head (from 1) reads, `all_attention` what all heads of all layers read.
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
