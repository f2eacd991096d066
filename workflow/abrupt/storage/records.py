"""The record of a result: its identity, the circumstances it was made under, and the code behind it.

Weights carry theirs as metadata. Every other file has one beside it, `<stem>.json`, which it shares with the files
of the same stem, and which holds their SHA-256 too. Nothing but the standard library is needed: the driver reads
records to decide what is to be made again.
"""

import json
import os
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from abrupt.errors import DamagedFileError, InputError, UnreadableFileError
from abrupt.storage.code import definitions_behind
from abrupt.storage.files import sha256, write_atomically
from abrupt.storage.identity import Identity, configuration, curve_digest, differing_keys, digest, weights_digest

PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "cvxpy", "matplotlib", "h5py")
WEIGHTS = ".safetensors"
METADATA_KEY = "abrupt"
ALIKE = {"pretraining": None}


@cache
def processor() -> str:
    """The model of this machine's processor, as Linux calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def circumstances(device: str, threads: int) -> dict[str, Any]:
    """What the last bits of a result may depend on besides its identity. Which GPU is left out: a queue may give
    another one to who resumes."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "device": device,
        "threads": threads,
        "processor": processor(),
        "python": platform.python_version(),
        "versions": versions,
    }


def record_path(path: str | Path) -> Path:
    """Where the record of a file lies that is not weights."""
    return Path(path).with_suffix(".json")


def write_records(paths: Iterable[str | Path], about: dict[str, Any]) -> None:
    """Write the record of each of `paths`, complete files: `about`, as from `about_result`, and their SHA-256."""
    groups: dict[Path, list[Path]] = {}
    for path in map(Path, paths):
        groups.setdefault(record_path(path), []).append(path)
    for record, files in groups.items():
        content = {**about, "files": {file.name: sha256(file) for file in files}}
        write_atomically(record, f"{json.dumps(content, indent=1, sort_keys=True)}\n".encode())


def about_result(identity: Identity, circumstances: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a record says of a result. `more` may have `step` or `steps`, of a training run."""
    code = identity["code"]
    return {
        "identity": identity,
        "circumstances": circumstances,
        "definitions": definitions_behind(*code["entries"]),
        **more,
    }


def read_record(path: str | Path) -> dict[str, Any] | None:
    """What the file at `path` is of; None if it is missing or says nothing of that.

    Raises UnreadableFileError if there is a file that cannot be opened.
    """
    path = Path(path)
    try:
        path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    return read_leftover(path)


def read_leftover(path: str | Path) -> dict[str, Any] | None:
    """The same, whether the file itself is still there or its record alone."""
    path = Path(path)
    try:
        text = _header(path)["__metadata__"][METADATA_KEY] if path.suffix == WEIGHTS else _read(record_path(path))
        record = json.loads(text)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    parts = ["identity"] if path.suffix == WEIGHTS else ["identity", "files"]
    return record if isinstance(record, dict) and all(isinstance(record.get(part), dict) for part in parts) else None


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file, which is a little-endian length, so many bytes of JSON, and the data.

    Raises ValueError, KeyError or TypeError if the file is none, or not as long as its header says.
    """
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(min(length, 2**26)))
        ends = [about["data_offsets"][1] for name, about in header.items() if name != "__metadata__"]
        if os.fstat(stream.fileno()).st_size != 8 + length + max(ends, default=0):
            raise ValueError(f"{path}: is truncated")
    return header


def is_damaged(path: str | Path) -> bool:
    """Whether a file of weights is truncated, or no safetensors file at all."""
    try:
        _header(Path(path))
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError, AttributeError):
        return True
    return False


def unreadable(path: str | Path, error: OSError) -> UnreadableFileError:
    """The error for a file that is there and cannot be opened."""
    return UnreadableFileError(
        f"{path}: cannot be opened ({error.strerror or error}): nothing was changed; mend that and run again"
    )


def record_digest(record: dict[str, Any]) -> str:
    """What identifies the content of the file that has this record."""
    if "step" in record:
        return weights_digest(record["identity"], record["step"])
    if "steps" in record:
        return curve_digest(record["identity"], record["steps"])
    return digest(record["identity"])


def check_input(path: str | Path, wanted: str) -> None:
    """Raise InputError unless the file at `path` is what `wanted`, a digest as of `record_digest`, stands for, and
    its content is what its record says."""
    record = read_record(path)
    if record is None and Path(path).suffix == WEIGHTS and is_damaged(path):
        raise DamagedFileError(f"{path}: not a complete safetensors file: delete it and run again")
    if record is None:
        raise DamagedFileError(
            f"{path}: does not say what it is of, so it was not made by this workflow: delete it and run again"
        )
    if record_digest(record) != wanted:
        raise InputError(
            f"{path}: is of another configuration, or of other code, than this job asks for: delete it and run again"
        )
    if Path(path).suffix != WEIGHTS and record["files"].get(Path(path).name) != file_digest(path):
        raise DamagedFileError(
            f"{path}: is not the file that its record {record_path(path).name} describes, so it was changed or copied "
            "from elsewhere: delete it and run again"
        )


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file. Raises UnreadableFileError if it cannot be opened."""
    try:
        return sha256(path)
    except OSError as error:
        raise unreadable(path, error) from error


def start(identity: str, inputs: Any) -> dict[str, Any]:
    """The identity, or the identities by output, that a job was scheduled with, from its parameter.

    Raises InputError if the code is no longer what it was then, or if one of the job's `inputs` is not what the
    identity says.
    """
    scheduled = json.loads(identity)
    for one in scheduled.values() if "code" not in scheduled else [scheduled]:
        if one["code"] != code_identity(*one["code"]["entries"]):
            raise InputError(
                "the code was edited after Snakemake had been started, so this job would not give what it was started "
                "for: give the same command again"
            )
        for name, digests in one.get("inputs", {}).items():
            paths = inputs[name]
            for path, wanted in zip([paths] if isinstance(paths, str) else paths, digests, strict=True):
                check_input(path, wanted)
    return scheduled


@cache
def _code_identity(entries: tuple[str, ...]) -> str:
    return digest(definitions_behind(*entries))


def code_identity(*entries: str) -> dict[str, Any]:
    """The part of an identity that stands for code: a script and the modules that it imports by name, and a digest of
    all that can run there."""
    return {"entries": list(entries), "digest": _code_identity(entries)}


def explained_difference(record: dict[str, Any], wanted: Identity) -> list[str]:
    """What differs between a result that has `record` and one of the identity `wanted`: keys with their values, then
    the definitions of code that are new, gone or changed."""
    found = record["identity"]
    # A component run has the sections of the run that it starts from: a difference there is one here.
    differences = differing_keys({**configuration(found), **ALIKE}, {**configuration(wanted), **ALIKE})
    if found["code"]["digest"] != wanted["code"]["digest"]:
        old, new = record["definitions"], definitions_behind(*wanted["code"]["entries"])
        changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        differences.append(f"code of {', '.join(changed[:4])}{', ...' if len(changed) > 4 else ''}")
    elif not differences:
        differences.append("code of the run that it starts from")
    return differences
