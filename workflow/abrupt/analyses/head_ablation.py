"""Head ablation: a map that ignores the input replaces the attention map of one head, or of a group of heads.

There are two replacements. The head's mean map over the batch keeps what the head attends to by position alone. Uniform
attention keeps nothing. The paper has no figure of this; the authors' released script uses the mean map.
"""

from collections.abc import Iterator, Mapping

import pandas as pd
import torch
from torch import Tensor

from abrupt.analyses import mean_errors, per_checkpoint
from abrupt.analyses.attention import extract, measure_head_groups, random_masks
from abrupt.models.bert import Bert, Hooks
from abrupt.sampling import Batch
from abrupt.scores.heads import HEAD_GROUPS
from abrupt.task import Task


def replace_maps(heads: Tensor, maps: Tensor) -> Hooks:
    """Return hooks that give the chosen `heads`, bool (layers, heads), the attention `maps` (layers, heads, T, T).

    The maps are the same for every matrix.
    """
    return Hooks(attention_weights=lambda layer, own: torch.where(heads[layer][:, None, None], maps[layer], own))


def targets(groups: pd.Series) -> Iterator[tuple[dict, list[tuple[int, int]]]]:
    """Yield what to ablate: each head alone, then each group that has heads.

    A target is the columns that name it in the table, and a list of its heads (layer, head), counted from 1.
    """
    for (layer, head), group in groups.items():
        yield {"target": "head", "layer": layer, "head": head, "group": group}, [(layer, head)]
    for group in HEAD_GROUPS:
        members = groups.index[groups == group].tolist()
        if members:
            yield {"target": "group", "group": group}, members


@torch.no_grad()
def ablate(model: Bert, task: Task, batch: Batch, groups: pd.Series) -> pd.DataFrame:
    """Return one row for the model as it is (target `none`), and one for each target and replacement.

        target       none, head or group
        layer, head  the head of target head, counted from 1
        group        the group that the head is in, or that is ablated
        heads        how many heads are ablated
        replacement  batch_mean or uniform

    The columns of `mean_errors` follow. `groups` comes from `head_groups`.
    """
    mean_maps = torch.from_numpy(extract(model, task, batch, num_samples=1).attention_mean).to(model.device)
    replacements = {"batch_mean": mean_maps, "uniform": torch.full_like(mean_maps, 1 / task.num_entries)}
    rows = [{"target": "none", "heads": 0, **mean_errors(model(batch.tokens), batch)}]
    for columns, members in targets(groups):
        chosen = torch.zeros(mean_maps.shape[:2], dtype=torch.bool, device=model.device)
        for layer, head in members:
            chosen[layer - 1, head - 1] = True
        for replacement, maps in replacements.items():
            prediction = model.forward_with_hooks(batch.tokens, replace_maps(chosen, maps))
            about = {**columns, "heads": len(members), "replacement": replacement}
            rows.append({**about, **mean_errors(prediction, batch)})
    table = pd.DataFrame(rows).astype({"layer": "Int64", "head": "Int64"})
    first = ["target", "layer", "head", "group", "heads", "replacement"]
    return table[[*first, *table.columns.difference(first, sort=False)]]


def measure(models: Mapping[int, Bert], task: Task, seed: int, matrices: int, attention_matrices: int) -> pd.DataFrame:
    """Return `ablate` at every step, with heads grouped by what they attend to at the last step.

    The groups are the same at every step. They are measured on the `attention_matrices` matrices of the head scores, so
    that a head is in the same group in all figures.
    """
    last = models[max(models)]
    groups = measure_head_groups(last, task, random_masks(task, attention_matrices, seed).to(last.device))
    return per_checkpoint(ablate)(models, task, seed, matrices, groups=groups)
