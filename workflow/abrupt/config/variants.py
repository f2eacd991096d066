"""Runs of their own: trainings beside the main run with something changed (paper, Figures 11 to 18).

A run has a name and a nested dict of changes to the config's sections `task`, `model` and `pretrain`. What it does not
change is as in the main run, and so is the order of its random draws.
"""

import math
from itertools import chain
from typing import Any

Changes = dict[str, dict[str, Any]]


def families(config: dict[str, Any]) -> dict[str, dict[str, Changes]]:
    """Return the runs behind each figure, family -> run name -> changes.

    A name says what was changed. In the sweeps it has all three of width, depth and heads, so that a run which several
    sweeps share has one name.
    """
    runs, model = config["runs"], config["model"]
    sweeps, mixture, larger, gaussian = (runs[name] for name in ("sweeps", "mixture", "larger", "gaussian"))
    shape = {"width": model["hidden_size"], "depth": model["num_hidden_layers"], "heads": model["num_attention_heads"]}

    def run_changes(steps: int, changes: Changes) -> Changes:
        """Add what every run changes: its length, its only checkpoint and its threads."""
        pretrain = {"steps": steps, "checkpoint_steps": [steps], "threads": runs["threads"]}
        return {**changes, "pretrain": {**pretrain, **changes.get("pretrain", {})}}

    def sweep_runs(family: str) -> dict[str, Changes]:
        found = {}
        for value in sweeps[family]:
            member = {**shape, family: value}
            name = "_".join(f"{key}{number}" for key, number in member.items())
            found[name] = run_changes(sweeps["steps"], {"model": _shape_changes(model, **member)})
        return found

    def square(size: int, rank: int) -> Changes:
        """Return the changes for matrices of size x size, with as many position slots as they need."""
        slots = max(model["max_position_embeddings"], size**2)
        return {
            "task": {"rows": size, "columns": size, "rank": rank},
            "model": {"max_position_embeddings": slots},
        }

    largest = square(max(mixture["sizes"]), mixture["rank"])
    law = {"factor_law": "gaussian", "factor_scale": gaussian["scale"], "max_value": gaussian["max_value"]}
    return {
        **{family: sweep_runs(family) for family in shape},
        "mixture": {"mixture": run_changes(mixture["steps"], {**largest, "pretrain": {"sizes": mixture["sizes"]}})},
        "larger": {
            f"size{size}": run_changes(larger["steps"], square(size, larger["rank"])) for size in larger["sizes"]
        },
        "gaussian": {"gaussian": run_changes(gaussian["steps"], {"task": law})},
    }


def _shape_changes(model: dict[str, Any], width: int, depth: int, heads: int) -> dict[str, Any]:
    """Return the changes of the model's shape. The MLP keeps its ratio to the width."""
    return {
        "hidden_size": width,
        "intermediate_size": width * model["intermediate_size"] // model["hidden_size"],
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
    }


def variants(config: dict[str, Any]) -> dict[str, Changes]:
    """Return the changes of all runs of all families, run name -> changes."""
    return dict(chain.from_iterable(members.items() for members in families(config).values()))


def gpt_changes(config: dict[str, Any]) -> Changes:
    """Return what the decoder's run changes (Figures 11 and 12).

    Its vocabulary is no larger than bounded entries need.
    """
    task, gpt = config["task"], config["gpt"]
    largest = math.ceil(task["rank"] * task["factor_scale"] ** 2)
    max_value = largest if task["factor_law"] == "uniform" else task["max_value"]
    return {
        "task": {"decimals": gpt["decimals"], "max_value": max_value},
        "model": gpt["model"],
        "pretrain": gpt["pretrain"],
    }
