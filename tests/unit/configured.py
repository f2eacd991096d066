"""The results of a configuration, as the rules see them."""

import copy
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from abrupt.config.results import Results
from abrupt.config.settings import merged

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / "workflow"
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
SMOKE = yaml.safe_load((WORKFLOW / "scales/smoke.yaml").read_text(encoding="utf-8"))
CATALOGUE = yaml.safe_load((WORKFLOW / "figures.yaml").read_text(encoding="utf-8"))


def changed(config: dict[str, Any], **values: Any) -> dict[str, Any]:
    """`config` with some values replaced: section__key=value."""
    config = copy.deepcopy(config)
    for name, value in values.items():
        *sections, key = name.split("__")
        reduce(dict.__getitem__, sections, config)[key] = value
    return config


def smoke_results(**values: Any) -> Results:
    """The results at the smoke scale, with values of the configuration replaced: section__key=value."""
    return Results(changed(merged(CONFIG, {**SMOKE, "scale": "smoke", "name": "smoke"}), **values), CATALOGUE)
