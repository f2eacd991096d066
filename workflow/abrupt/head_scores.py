"""Head scores: the share of a head's attention on each group of keys against uniform attention's (Figure 4)."""

from typing import Any

import numpy as np
import pandas as pd


def tidy_shares(attributes: dict[str, Any], patterns: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """One row for each mask pattern, layer, head, query group and key group of an attention file.

    Columns: seed, step, mask_pattern, layer, head (both from 1), query_group, key_group, share,
    uniform_share (shares of attention mass, 0 to 1), and score = (share - uniform_share) /
    (1 - uniform_share): 0 for uniform attention, 1 if all mass is on the group.
    """
    tables = []
    for pattern, arrays in patterns.items():
        share, uniform = arrays["head_share"], arrays["uniform_share"]
        layers, heads = share.shape[:2]
        index = pd.MultiIndex.from_product(
            [range(1, layers + 1), range(1, heads + 1), attributes["query_groups"], attributes["key_groups"]],
            names=["layer", "head", "query_group", "key_group"],
        )
        values = {"share": share.ravel(), "uniform_share": np.broadcast_to(uniform, share.shape).ravel()}
        table = pd.DataFrame(values, index=index).reset_index()
        table.insert(0, "mask_pattern", pattern)
        tables.append(table)
    result = pd.concat(tables, ignore_index=True)
    result.insert(0, "step", int(attributes["step"]))
    result.insert(0, "seed", int(attributes["seed"]))
    result["score"] = (result["share"] - result["uniform_share"]) / (1 - result["uniform_share"])
    return result
