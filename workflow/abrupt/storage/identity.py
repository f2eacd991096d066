"""What a result is of: the configuration that its numbers depend on, its seed, its code and its inputs.

An identity is a nested dict that JSON can hold. How long a run is, and the circumstances that it ran under (device,
threads, versions, processor), are no part of it. Nothing but the standard library is needed.
"""

import hashlib
import json
from typing import Any

Identity = dict[str, Any]


def _plain(value: Any) -> Any:
    """`value` with every whole number as an integer, so that 1.0 and 1 are one."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def canonical_json(value: Any) -> str:
    """JSON that is equal for equal values: sorted keys, no spaces, 1 for 1.0."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that identify a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def differing_keys(stored: dict, wanted: dict, prefix: str = "") -> list[str]:
    """What differs between two nested dicts, each as 'key: stored -> wanted'."""
    differences = []
    for key in sorted(stored.keys() | wanted.keys()):
        a, b = stored.get(key), wanted.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            differences += differing_keys(a, b, f"{prefix}{key}.")
        elif _plain(a) != _plain(b):
            differences.append(f"{prefix}{key}: {a} -> {b}")
    return differences


def configuration(identity: Identity) -> Identity:
    """The part of an identity that the configuration says: all but its code, and its inputs, which code has made."""
    return {
        key: configuration(value) if isinstance(value, dict) else value
        for key, value in identity.items()
        if key not in ("code", "inputs")
    }


def weights_digest(run: Identity, step: int) -> str:
    """Identifies the weights of a training run after `step` updates."""
    return digest({"run": run, "step": step})


def curve_digest(run: Identity, steps: int) -> str:
    """Identifies the logged rows of a training run up to `steps` updates."""
    return digest({"run": run, "steps": steps})
