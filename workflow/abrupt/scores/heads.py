"""Head scores compare a head's attention to each group of keys with uniform attention (paper, Figure 4)."""

from typing import Any

import numpy as np
import pandas as pd

POSITION_GROUPS = ("same_row", "same_column", "self")
OTHER = "other"
HEAD_GROUPS = (*POSITION_GROUPS, "observed", OTHER)
SPECIALISED_SCORE = 0.5
ATTENDED = 2  # a head attends to what gets this many times its share of uniform attention


def tidy_shares(attributes: dict[str, Any], patterns: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """Return one row for each mask pattern, layer, head, query group and key group of an attention file.

    seed, step, mask_pattern, layer, head, query_group, key_group  (layer and head count from 1)
    share          the share of attention on the key group, from 0 to 1
    uniform_share  the same share under uniform attention
    score          (share - uniform_share) / (1 - uniform_share), which is 0 for uniform attention, and 1 if all
                   attention is on the group
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


def overall_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a `tidy_shares` table that heads are grouped by: all queries of random masks."""
    return scores[(scores["mask_pattern"] == "random") & (scores["query_group"] == "all")]


def head_groups(scores: pd.DataFrame) -> pd.Series:
    """Return the group of each head, indexed by (layer, head): one of HEAD_GROUPS.

    `scores` has one row for each layer, head and key group of one seed and step. The first of these rules that fits
    gives the group:

        1. The head's best score on POSITION_GROUPS is SPECIALISED_SCORE or more: it is in that group.
        2. Its score on observed entries is SPECIALISED_SCORE or more: it is in `observed`.
        3. Otherwise it is in `other`.

    A head that reads the observed entries of its row is thus a row head. At a score of one half, half of the attention
    that a uniform head gives to other positions is on the group instead.
    """
    score = scores.pivot(index=["layer", "head"], columns="key_group", values="score")
    by_position = score[list(POSITION_GROUPS)]
    group = by_position.idxmax(axis=1).where(by_position.max(axis=1) >= SPECIALISED_SCORE)
    group = group.fillna(pd.Series("observed", score.index).where(score["observed"] >= SPECIALISED_SCORE, OTHER))
    return group.rename("group")


def specialisation_steps(scores: pd.DataFrame) -> pd.DataFrame:
    """Return when each head that is specialised at the last step became so: layer, head, group and step.

    `scores` has one row for each step, layer, head and key group of one seed. From `step` on, the head's score on its
    group is never below half of its last score. Heads in `other` are left out.
    """
    last = scores["step"].max()
    groups = head_groups(scores[scores["step"] == last])
    rows = []
    for (layer, head), group in groups[groups != OTHER].items():
        chosen = (scores["layer"] == layer) & (scores["head"] == head) & (scores["key_group"] == group)
        score = scores[chosen].set_index("step")["score"].sort_index()
        below = score.index[score < score[last] / 2]
        step = score.index[score.index > (below.max() if len(below) else -1)].min()
        rows.append((layer, head, group, step))
    return pd.DataFrame(rows, columns=["layer", "head", "group", "step"])
