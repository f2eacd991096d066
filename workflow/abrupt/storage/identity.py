"""Which run made a file: Snakemake accepts copied results as they are, so the files say it themselves."""

import json
from pathlib import Path
from typing import Any

import safetensors

from abrupt.errors import DamagedFileError, InputError


def pretraining_run(task: dict, model: dict, pretrain: dict, seed: int) -> dict[str, Any]:
    """What identifies a pretraining run: its part of the config and its seed."""
    return {"task": task, "model": model, "pretrain": pretrain, "seed": seed}


def component_run(pretraining: dict[str, Any], component: str, steps: int) -> dict[str, Any]:
    """What identifies a component run: the pretraining it starts from, the component, its length."""
    return {"pretraining": pretraining, "component": component, "steps": steps}


def read_run(path: str | Path) -> dict[str, Any]:
    """The run that wrote the weights in `path`, from the metadata alone and without PyTorch.

    Raises DamagedFileError if the file is missing, damaged or foreign.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as stream:
            metadata = stream.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise DamagedFileError(f"{path}: not a complete safetensors file ({error}): delete it and run again") from error
    try:
        return json.loads(metadata["abrupt"])["run"]
    except (KeyError, ValueError) as error:
        raise DamagedFileError(f"{path}: not written by this workflow: delete it and run again") from error


def differing_keys(stored: dict, wanted: dict, prefix: str = "") -> list[str]:
    """What differs between two nested dicts, each as 'key: stored -> wanted'."""
    differences = []
    for key in sorted(stored.keys() | wanted.keys()):
        a, b = stored.get(key), wanted.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            differences += differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            differences.append(f"{prefix}{key}: {a} -> {b}")
    return differences


def check_same_run(path: str | Path, stored: dict, wanted: dict) -> None:
    """Raise InputError if the file at `path` was made with another configuration than `wanted`."""
    differences = differing_keys(stored, wanted)
    if differences:
        raise InputError(
            f"{path}: made with another configuration ({'; '.join(differences)}): "
            "delete the file or use the configuration that made it"
        )
