"""Head ablation: the attention map of one head, or of a group of heads, is replaced by one that ignores the input.

Two replacements: the head's mean map over the batch, which keeps what it attends to by position alone, and uniform
attention, which keeps nothing. The paper gives no figure; the authors' released script does the former.
"""

from collections.abc import Iterator, Mapping

import pandas as pd
import torch
from torch import Tensor

from abrupt.analyses import mean_errors, per_checkpoint
from abrupt.analyses.attention import extract, groups_of_heads, random_masks
from abrupt.models.bert import Bert, Hooks
from abrupt.sampling import Batch
from abrupt.scores.heads import HEAD_GROUPS
from abrupt.task import Task


def replace_maps(heads: Tensor, maps: Tensor) -> Hooks:
    """Hooks that give the chosen `heads`, bool (layers, heads), the same attention `maps`, (layers, heads, T, T),
    for every matrix."""
    return Hooks(attention_weights=lambda layer, own: torch.where(heads[layer][:, None, None], maps[layer], own))


def targets(groups: pd.Series) -> Iterator[tuple[dict, list[tuple[int, int]]]]:
    """What to ablate: each head alone, then each group that has heads; its columns of the table, and its heads."""
    for (layer, head), group in groups.items():
        yield {"target": "head", "layer": layer, "head": head, "group": group}, [(layer, head)]
    for group in HEAD_GROUPS:
        members = groups.index[groups == group].tolist()
        if members:
            yield {"target": "group", "group": group}, members


@torch.no_grad()
def ablate(model: Bert, task: Task, batch: Batch, groups: pd.Series) -> pd.DataFrame:
    """One row for the model as it is (target `none`), and one for each target and replacement.

    Columns: target (none, head, group), layer and head (from 1, of target head), group, heads (how many are
    replaced), replacement (batch_mean, uniform), and the columns of `mean_errors`. `groups` is as from
    `head_groups`.
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
    """`ablate` at every step, with heads grouped by what they attend to at the last one: the same heads throughout.

    They are grouped on the `attention_matrices` matrices that head scores are of, so that a head has one group in all
    figures.
    """
    last = models[max(models)]
    groups = groups_of_heads(last, task, random_masks(task, attention_matrices, seed).to(last.device))
    return per_checkpoint(ablate)(models, task, seed, matrices, groups=groups)
