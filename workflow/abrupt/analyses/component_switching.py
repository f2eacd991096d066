"""Switching components: one checkpoint's parameters, but for those of one component, which are another's.

Between a checkpoint before the drop and one after it, in both directions. Switching one part into the model before
the drop is the same as switching all other parts into the model after it. The authors' released script switches
query, key and value maps, or all but attention.
"""

from collections.abc import Mapping

import pandas as pd
import torch

from abrupt.analyses import held_out, mean_errors
from abrupt.models.bert import Bert
from abrupt.models.components import COMPONENTS, PART_PATTERNS, with_parts_of
from abrupt.sampling import Batch
from abrupt.task import Task

# Every part of the partition, then the components that are more than one of them.
SWITCHED = {part: (part,) for part in PART_PATTERNS} | COMPONENTS


@torch.no_grad()
def switch(receiver: Bert, donor: Bert, batch: Batch) -> pd.DataFrame:
    """One row for `receiver` as it is (component `none`), and one for each of SWITCHED taken from `donor`, with the
    columns of `mean_errors`."""
    rows = []
    for component, parts in {"none": (), **SWITCHED}.items():
        mixed = with_parts_of(receiver, donor, parts)
        rows.append({"component": component, **mean_errors(mixed(batch.tokens), batch)})
    return pd.DataFrame(rows)


def measure(models: Mapping[int, Bert], task: Task, seed: int, matrices: int) -> pd.DataFrame:
    """`switch` in both directions between the two `models`, with columns step (the receiver's) and donor_step."""
    before, after = sorted(models)
    tables = []
    for step, donor_step in [(before, after), (after, before)]:
        receiver = models[step]
        batch = held_out(task, matrices, seed).to(receiver.device)
        tables.append(switch(receiver, models[donor_step], batch).assign(step=step, donor_step=donor_step))
    return pd.concat(tables, ignore_index=True)
