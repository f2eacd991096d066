"""The configuration: merging its layers, and what a schema cannot say about it."""

import math
from typing import Any

import yaml

from abrupt.errors import InputError

Config = dict[str, Any]

# Keys that may hold 1.0. Everywhere else that is a mistake which JSON Schema takes for an integer.
REAL_KEYS = {
    "task.mask_probability",
    "model.embedding_init_std",
    "model.weight_init_std",
    "pretrain.learning_rate",
    "pretrain.adam_beta1",
    "pretrain.adam_beta2",
    "analyses.token_intervention.values",
}


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
    return f": {violation.schema['description']}" if "description" in violation.schema else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def check(config: Config) -> None:
    """Cross-field checks. Raises InputError with one line for each problem."""
    problems = list(_problems(config))
    if problems:
        raise InputError("\n".join(f"config: {problem}" for problem in problems))


def _problems(config: Config):
    for key, value in flattened(config).items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, float) and not math.isfinite(item):
                yield f"{key} {item} is not a finite number: write one"
            elif isinstance(item, float) and item.is_integer() and key not in REAL_KEYS:
                yield f"{key} {item} must be an integer: write {int(item)}"
    task, model, pretrain = config["task"], config["model"], config["pretrain"]
    if task["rank"] > min(task["rows"], task["columns"]):
        yield f"task.rank {task['rank']} exceeds min(rows, columns) = {min(task['rows'], task['columns'])}: lower it"
    if task["rank"] > task["max_value"]:
        yield f"task.max_value {task['max_value']} is below task.rank {task['rank']}, the largest |entry|: raise it"
    if model["hidden_size"] % model["num_attention_heads"]:
        yield (
            f"model.hidden_size {model['hidden_size']} is not divisible by "
            f"model.num_attention_heads {model['num_attention_heads']}: change one"
        )
    entries = task["rows"] * task["columns"]
    if model["max_position_embeddings"] < entries:
        yield (
            f"model.max_position_embeddings {model['max_position_embeddings']} is below "
            f"task.rows x task.columns = {entries}: raise it"
        )
    yield from _step_problems(config)
    if pretrain["eval_every"] % pretrain["log_every"]:
        yield (
            f"pretrain.eval_every {pretrain['eval_every']} is not a multiple of "
            f"pretrain.log_every {pretrain['log_every']}: evaluations are logged with the losses"
        )
    for section in ("pretrain", "components"):
        steps = config[section]["steps"]
        if steps % pretrain["log_every"]:
            yield f"{section}.steps {steps} is not a multiple of pretrain.log_every {pretrain['log_every']}: change one"
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


def _step_problems(config: Config):
    last = config["pretrain"]["steps"]
    checkpoints = config["pretrain"]["checkpoint_steps"]
    for required in (0, last):
        if required not in checkpoints:
            yield f"pretrain.checkpoint_steps must include {required} (step 0 and pretrain.steps): add it"
    for step in checkpoints:
        if step > last:
            yield f"pretrain.checkpoint_steps: {step} is beyond pretrain.steps {last}: remove it"
    for key in ("attention", "analyses"):
        steps = config[key]["steps"]
        if last not in steps:
            yield f"{key}.steps must include pretrain.steps ({last}): add it"
        for step in steps:
            if step not in checkpoints:
                yield f"{key}.steps: {step} is not in pretrain.checkpoint_steps: add it there or remove it here"
