"""Atomic writes, tidy tables as CSV, and what identifies the run that made a file."""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abrupt.errors import InputError

if TYPE_CHECKING:  # the driver imports this module without pandas
    import pandas as pd


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `path` and rename it: readers see all of it or none.

    Raises InputError if the disk is full; the file that was there before stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(f"{path}: no space left on the disk: free some and run the same command again") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(path: str | Path, table: "pd.DataFrame") -> None:
    """A tidy table as CSV, 8 significant digits, an empty cell for nan."""
    write_atomically(path, table.to_csv(index=False, float_format="%.8g", lineterminator="\n").encode())


def canonical_json(value: Any) -> str:
    """JSON that is equal for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def fingerprint(value: Any) -> str:
    """Twelve hexadecimal digits that identify a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pretraining_run(task: dict, model: dict, pretrain: dict, seed: int) -> dict[str, Any]:
    """What identifies a pretraining run: its part of the config and its seed."""
    return {"task": task, "model": model, "pretrain": pretrain, "seed": seed}


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
