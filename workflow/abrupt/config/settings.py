"""The configuration: merging its layers, and what a schema cannot say about it."""

import math
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from abrupt.config.variants import gpt_changes, variants
from abrupt.errors import InputError
from abrupt.task import Task, axes

Config = dict[str, Any]

SCALES = ("smoke", "cpu", "paper")
RESERVED_NAMES = ("reference", "benchmarks")
VALID_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that stands twice in one mapping."""


def _unique_keys(loader: _StrictLoader, node: yaml.MappingNode) -> Config:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for number, key in enumerate(keys):
        if key in keys[:number]:
            line = node.value[number][0].start_mark.line + 1
            raise InputError(f"{loader.name}, line {line}: the key {key!r} stands there twice: remove one of the two")
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_keys)


def read_yaml(path: str | Path) -> Config:
    """The mapping in a YAML (or JSON) file. Raises InputError if it cannot be read, or has a key twice."""
    try:
        with open(path, encoding="utf-8") as stream:
            content = yaml.load(stream, _StrictLoader) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no keys with values: write them as in config.yaml")
    return content


def layered(
    workflow: Path, configfiles: Iterable[str | Path], given: Config, arguments: Iterable[str], reporting: bool
) -> tuple[Config, Config, int]:
    """The merged configuration, the part of it that differs from its scale's, and how many keys the scale sets.

    Layers, each over the last: config.yaml, workflow/scales/<scale>.yaml, `configfiles`, and `given`, the values of
    --config as Snakemake reads them; `arguments` are the same as they were typed, so that a name stays text. For a
    report of finished results (`reporting`) the configuration that made them is taken instead.

    Raises InputError for an unknown scale, an unusable name, or a file that cannot be read.
    """
    base = read_yaml(workflow.parent / "config.yaml")
    over: Config = {}
    for path in configfiles:
        over = merged(over, read_yaml(path))
    over = whole(merged(over, retyped(given)))
    typed = [argument.removeprefix("name=") for argument in arguments if argument.startswith("name=")]
    if typed:
        over["name"] = typed[-1]
    scale = over.get("scale", base["scale"])
    if scale not in SCALES:
        raise InputError(f"config: scale: {scale!r} is not one of {', '.join(SCALES)}: choose one of them")
    set_by_scale = read_yaml(workflow / "scales" / f"{scale}.yaml")
    at_scale = whole(merged(merged(base, set_by_scale), {"scale": scale}))
    config = merged(at_scale, over)
    if config["name"] is None:
        config["name"] = scale
    check_name(config["name"], scale)
    if reporting:
        config = read_yaml(_made_config(config["name"], named="name" in over or "scale" in over))
    changes = difference({**at_scale, "name": config["name"]}, config)
    return config, changes, len(flattened(set_by_scale))


def _made_config(name: str, named: bool) -> Path:
    """The merged configuration beside the results called `name`, or beside the only results there are if none are
    `named`. Raises InputError if there is none."""
    made = Path("results", name, "config.yaml")
    others = sorted(Path("results").glob("*/config.yaml"))
    if not made.exists() and not named and len(others) == 1:
        made = others[0]
    if not made.exists():
        there = ", ".join(path.parent.name for path in others)
        raise InputError(
            f"{made.parent}: there are no results to report on: "
            + (f"choose others by --config name=..., one of {there}" if others else "run the workflow first")
        )
    return made


def check_name(name: Any, scale: str) -> None:
    """Raise InputError unless results of `scale` may lie in results/<name>/."""
    if not isinstance(name, str):
        raise InputError(f"config: name: {name!r} is not text: put it in quotes")
    if not VALID_NAME.fullmatch(name):
        raise InputError(
            f"config: name: {name!r} may hold letters, digits, '.', '_' and '-' alone, and not begin with '.'"
        )
    if name in RESERVED_NAMES or (name in SCALES and name != scale):
        raise InputError(f"config: name: {name!r} is a name that the workflow uses itself: choose another")


def whole(value: Any) -> Any:
    """`value` with every whole number in it as an integer: 1.0 is 1."""
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def difference(base: Config, config: Config) -> Config:
    """The keys of `config` whose values are not those of `base`, nested as they are there."""
    result: Config = {}
    for key, value in config.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            if inner := difference(base[key], value):
                result[key] = inner
        elif key not in base or value != base[key]:
            result[key] = value
    return result


def merged(base: Config, over: Config) -> Config:
    """`over` laid on `base`: dicts merged key by key, anything else (lists too) replaced."""
    result = dict(base)
    for key, value in over.items():
        both_dicts = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both_dicts else value
    return result


def retyped(value: Any) -> Any:
    """`value` with every text in it read as YAML: '9' becomes 9."""
    if isinstance(value, dict):
        return {key: retyped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [retyped(item) for item in value]
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def flattened(config: Config, prefix: str = "") -> Config:
    """Nested dicts as one dict with dotted keys."""
    flat: Config = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat.update(flattened(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat


def explain_schema_error(violation: Any) -> str:
    """One line for a jsonschema ValidationError: the key, what is wrong, and what to write instead."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in violation.absolute_path)
    return f"config: {path.removeprefix('.') or 'top level'}: {violation.message}{_remedy(violation)}"


def _remedy(violation: Any) -> str:
    if violation.validator == "additionalProperties":
        return f": remove it or spell it as one of {', '.join(violation.schema['properties'])}"
    if violation.validator == "type" and isinstance(violation.instance, str) and _is_number(violation.instance):
        number = float(violation.instance)
        number = int(number) if violation.validator_value == "integer" else number
        return f": YAML reads {violation.instance} as text, write {number!r}"
    if violation.validator == "required":
        return ": every key of config.yaml must be there"
    return f": {violation.schema['description'].strip()}" if "description" in violation.schema else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def check(config: Config) -> None:
    """Cross-field checks. Raises InputError with one line for each problem."""
    problems = list(_problems(config)) or [*_variant_problems(config), *_shift_problems(config)]
    if problems:
        raise InputError("\n".join(f"config: {problem}" for problem in problems))


def _matrix_problems(config: Config):
    """What would keep a model of these sections from reading these matrices."""
    task, positions = Task(**config["task"]), config["model"]["max_position_embeddings"]
    smallest = min(task.rows, task.columns, *config["pretrain"].get("sizes", []))
    if task.rank > smallest:
        yield f"task.rank {task.rank} exceeds min(rows, columns) = {smallest}: lower it"
    if task.factor_law == "uniform" and not task.bounded:
        largest = task.rank * task.factor_scale**2
        yield (
            f"task.max_value {task.max_value} is below task.rank x task.factor_scale^2 = {largest:g}, "
            "the largest |entry|: raise it"
        )
    if positions < task.num_entries:
        yield (
            f"model.max_position_embeddings {positions} is below task.rows x task.columns = {task.num_entries}: "
            "raise it"
        )


def _training_problems(config: Config):
    """What would keep a model of these sections from being trained on these matrices."""
    model, pretrain = config["model"], config["pretrain"]
    yield from _matrix_problems(config)
    if model["hidden_size"] % model["num_attention_heads"]:
        yield (
            f"model.hidden_size {model['hidden_size']} is not divisible by "
            f"model.num_attention_heads {model['num_attention_heads']}: change one"
        )
    if pretrain["eval_every"] % pretrain["log_every"]:
        yield (
            f"pretrain.eval_every {pretrain['eval_every']} is not a multiple of "
            f"pretrain.log_every {pretrain['log_every']}: evaluations are logged with the losses"
        )
    if pretrain["steps"] % pretrain["log_every"]:
        yield _not_whole_windows("pretrain.steps", pretrain["steps"], pretrain)


def _not_whole_windows(key: str, steps: int, pretrain: Config) -> str:
    return f"{key} {steps} is not a multiple of pretrain.log_every {pretrain['log_every']}: change one"


def _variant_problems(config: Config):
    """What is wrong with runs of their own, by the rules for the main run: each problem once."""
    first_run: dict[str, str] = {}
    for name, changes in variants(config).items():
        for problem in _training_problems(merged(config, changes)):
            first_run.setdefault(problem, f"runs: {name}")
    yield from (f"{name}: {problem}" for problem, name in first_run.items())
    decoder = merged(config, gpt_changes(config))
    for problem in (*_training_problems(decoder), *_checkpoint_problems(decoder["pretrain"])):
        yield f"gpt.{problem}"


def _shift_problems(config: Config):
    """What would keep the model from reading the matrices of a shift."""
    task = Task(**config["task"])
    for axis, values in axes(config["analyses"]["completion"]["shifts"]).items():
        for value in values:
            for problem in _matrix_problems({**config, "task": asdict(task.changed(axis, value))}):
                yield f"analyses.completion.shifts.{axis}: with {value}, {problem}, or remove {value}"


def _problems(config: Config):
    for key, value in flattened(config).items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, float) and not math.isfinite(item):
                yield f"{key} {item} is not a finite number: write one"
    task, pretrain = config["task"], config["pretrain"]
    yield from _training_problems(config)
    yield from _step_problems(config)
    if config["components"]["steps"] % pretrain["log_every"]:
        yield _not_whole_windows("components.steps", config["components"]["steps"], pretrain)
    if config["attention"]["samples"] > config["attention"]["matrices"]:
        yield (
            f"attention.samples {config['attention']['samples']} exceeds "
            f"attention.matrices {config['attention']['matrices']}: lower it"
        )
    for value in config["analyses"]["token_intervention"]["values"]:
        if abs(value) > task["max_value"]:
            yield (
                f"analyses.token_intervention.values: {value} is outside [-{task['max_value']}, {task['max_value']}]: "
                "remove it or raise task.max_value"
            )
        if round(value, task["decimals"]) != value:
            yield f"analyses.token_intervention.values: {value} has more than task.decimals decimals: round it"
    yield from _representation_problems(config)


def _representation_problems(config: Config):
    task, analyses = config["task"], config["analyses"]
    probes, largest = analyses["probes"], analyses["token_embeddings"]["largest_value"]
    if probes["matrices"] - probes["train_matrices"] < 2:
        yield (
            f"analyses.probes.train_matrices {probes['train_matrices']} leaves fewer than 2 of "
            f"analyses.probes.matrices {probes['matrices']} for the test: lower it"
        )
    occurring = task["rank"] * task["factor_scale"] ** 2 if task["factor_law"] == "uniform" else task["max_value"]
    if largest > min(occurring, task["max_value"]):
        yield (
            f"analyses.token_embeddings.largest_value {largest} exceeds {min(occurring, task['max_value']):g}, "
            "the largest |entry| that training can show: lower it"
        )
    if round(largest * 10 ** task["decimals"]) < 2:
        yield f"analyses.token_embeddings.largest_value {largest} leaves fewer than 5 tokens: raise it"
    perplexity, entries = analyses["position_embeddings"]["perplexity"], task["rows"] * task["columns"]
    if perplexity >= entries:
        yield (
            f"analyses.position_embeddings.perplexity {perplexity} is not below task.rows x task.columns = {entries}: "
            "lower it"
        )


def _checkpoint_problems(pretrain: Config):
    last, checkpoints = pretrain["steps"], pretrain["checkpoint_steps"]
    for required in (0, last):
        if required not in checkpoints:
            yield f"pretrain.checkpoint_steps must include {required} (step 0 and pretrain.steps): add it"
    for step in checkpoints:
        if step > last:
            yield f"pretrain.checkpoint_steps: {step} is beyond pretrain.steps {last}: remove it"


def _step_problems(config: Config):
    yield from _checkpoint_problems(config["pretrain"])
    last, checkpoints = config["pretrain"]["steps"], config["pretrain"]["checkpoint_steps"]
    for key in ("attention", "analyses"):
        steps = config[key]["steps"]
        if last not in steps:
            yield f"{key}.steps must include pretrain.steps ({last}): add it"
        for step in steps:
            if step not in checkpoints:
                yield f"{key}.steps: {step} is not in pretrain.checkpoint_steps: add it there or remove it here"
    pre_shift = config["analyses"]["interventions"]["pre_shift_step"]
    if pre_shift not in checkpoints or pre_shift == last:
        yield (
            f"analyses.interventions.pre_shift_step {pre_shift} is not in pretrain.checkpoint_steps before "
            f"pretrain.steps ({last}): choose one of those"
        )
