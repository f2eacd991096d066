"""Runs of their own: normal training with something changed (paper, Figures 13 to 18).

A run is a name and a nested dict of changes to the config's sections `task`, `model` and `pretrain`. What
it does not change is the main run's, the order of its random draws included.
"""

import math
from itertools import chain
from typing import Any

Changes = dict[str, dict[str, Any]]


def families(config: dict[str, Any]) -> dict[str, dict[str, Changes]]:
    """The runs behind each figure, family -> run name -> changes. A name says what was changed, and in the
    sweeps all three of width, depth and heads, so that a run which two of them share has one name."""
    runs, model = config["runs"], config["model"]
    sweeps, mixture, larger, gaussian = (runs[name] for name in ("sweeps", "mixture", "larger", "gaussian"))
    shape = {"width": model["hidden_size"], "depth": model["num_hidden_layers"], "heads": model["num_attention_heads"]}

    def lasting(steps: int, changes: Changes) -> Changes:
        """The changes that every run has."""
        pretrain = {"steps": steps, "checkpoint_steps": [steps], "threads": runs["threads"]}
        return {**changes, "pretrain": {**pretrain, **changes.get("pretrain", {})}}

    def of_sweep(family: str) -> dict[str, Changes]:
        found = {}
        for value in sweeps[family]:
            member = {**shape, family: value}
            name = "_".join(f"{key}{number}" for key, number in member.items())
            found[name] = lasting(sweeps["steps"], {"model": _shape_changes(model, **member)})
        return found

    def square(size: int, rank: int) -> Changes:
        """Matrices of size x size, and as many position slots as they need."""
        slots = max(model["max_position_embeddings"], size**2)
        return {
            "task": {"rows": size, "columns": size, "rank": rank},
            "model": {"max_position_embeddings": slots},
        }

    largest = square(max(mixture["sizes"]), mixture["rank"])
    law = {"factor_law": "gaussian", "factor_scale": gaussian["scale"], "max_value": gaussian["max_value"]}
    return {
        **{family: of_sweep(family) for family in shape},
        "mixture": {"mixture": lasting(mixture["steps"], {**largest, "pretrain": {"sizes": mixture["sizes"]}})},
        "larger": {f"size{size}": lasting(larger["steps"], square(size, larger["rank"])) for size in larger["sizes"]},
        "gaussian": {"gaussian": lasting(gaussian["steps"], {"task": law})},
    }


def _shape_changes(model: dict[str, Any], width: int, depth: int, heads: int) -> dict[str, Any]:
    """The MLP keeps its ratio to the width."""
    return {
        "hidden_size": width,
        "intermediate_size": width * model["intermediate_size"] // model["hidden_size"],
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
    }


def variants(config: dict[str, Any]) -> dict[str, Changes]:
    """All runs of all families: run name -> changes."""
    return dict(chain.from_iterable(members.items() for members in families(config).values()))


def gpt_changes(config: dict[str, Any]) -> Changes:
    """What the decoder's run changes (Figures 11 and 12). Its vocabulary is no larger than bounded entries need."""
    task, gpt = config["task"], config["gpt"]
    largest = math.ceil(task["rank"] * task["factor_scale"] ** 2)
    max_value = largest if task["factor_law"] == "uniform" else task["max_value"]
    return {
        "task": {"decimals": gpt["decimals"], "max_value": max_value},
        "model": gpt["model"],
        "pretrain": gpt["pretrain"],
    }
