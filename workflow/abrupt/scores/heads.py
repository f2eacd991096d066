"""Head scores: the share of a head's attention on each group of keys against uniform attention's (Figure 4)."""

from typing import Any

import numpy as np
import pandas as pd

POSITION_GROUPS = ("same_row", "same_column", "self")
OTHER = "other"
HEAD_GROUPS = (*POSITION_GROUPS, "observed", OTHER)
SPECIALISED_SCORE = 0.5
ATTENDED = 2  # times the share of uniform attention


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


def overall_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Of a table as from `tidy_shares`, the scores over all queries of random masks: what heads are grouped by."""
    return scores[(scores["mask_pattern"] == "random") & (scores["query_group"] == "all")]


def head_groups(scores: pd.DataFrame) -> pd.Series:
    """What each head is specialised in, indexed by (layer, head): one of HEAD_GROUPS.

    `scores` has one row for each layer, head and key group, of one seed and step. A head belongs to the one of
    POSITION_GROUPS that it scores highest on, if that score is SPECIALISED_SCORE or more: half of the attention
    that a uniform head has elsewhere is there. Of the rest, those that score as high on observed entries are
    `observed` (a row head reads observed entries too, but is told by its row), the others `other`.
    """
    score = scores.pivot(index=["layer", "head"], columns="key_group", values="score")
    by_position = score[list(POSITION_GROUPS)]
    group = by_position.idxmax(axis=1).where(by_position.max(axis=1) >= SPECIALISED_SCORE)
    group = group.fillna(pd.Series("observed", score.index).where(score["observed"] >= SPECIALISED_SCORE, OTHER))
    return group.rename("group")


def specialisation_steps(scores: pd.DataFrame) -> pd.DataFrame:
    """When the heads that are specialised at the last step became so, one row a head: layer, head, group, step.

    `scores` has one row for each step, layer, head and key group, of one seed. `step` is the first from which on
    the head scores half of its last score on its group or more; heads in `other` are left out.
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
