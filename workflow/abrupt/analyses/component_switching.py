"""Component switching: one checkpoint takes the parameters of one component from another checkpoint.

One of the two checkpoints is before the drop and the other after it, and either takes from the other. To switch one
part into the model before the drop is the same as to switch all other parts into the model after it. The authors'
released script switches the query, key and value maps, or everything but attention.
"""

from collections.abc import Mapping

import pandas as pd
import torch

from abrupt.analyses import held_out, mean_errors
from abrupt.models.bert import Bert
from abrupt.models.components import COMPONENTS, PART_PATTERNS, with_parts_of
from abrupt.sampling import Batch
from abrupt.task import Task

# Every part alone, then the components that consist of several parts.
SWITCHED = {part: (part,) for part in PART_PATTERNS} | COMPONENTS


@torch.no_grad()
def switch(receiver: Bert, donor: Bert, batch: Batch) -> pd.DataFrame:
    """Return the errors of `receiver` as it is and with each of SWITCHED taken from `donor`, one row each.

    The columns are component (`none` for the first row) and those of `mean_errors`.
    """
    rows = []
    for component, parts in {"none": (), **SWITCHED}.items():
        mixed = with_parts_of(receiver, donor, parts)
        rows.append({"component": component, **mean_errors(mixed(batch.tokens), batch)})
    return pd.DataFrame(rows)


def measure(models: Mapping[int, Bert], task: Task, seed: int, matrices: int) -> pd.DataFrame:
    """Return `switch` in both directions between the two `models`.

    The column step is the receiver's step, and donor_step is the donor's.
    """
    before, after = sorted(models)
    tables = []
    for step, donor_step in [(before, after), (after, before)]:
        receiver = models[step]
        batch = held_out(task, matrices, seed).to(receiver.device)
        tables.append(switch(receiver, models[donor_step], batch).assign(step=step, donor_step=donor_step))
    return pd.concat(tables, ignore_index=True)
