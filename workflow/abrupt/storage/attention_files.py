"""The HDF5 file of attention maps of one (seed, step): written whole, read with its schema checked.

Root attributes: format, seed, step, matrices, identity (JSON),
query_groups, key_groups. One group a mask pattern; each dataset has its dimension names as labels.
"""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from abrupt.errors import DamagedFileError, UnreadableFileError
from abrupt.storage.files import write_atomically
from abrupt.storage.identity import Identity, canonical_json
from abrupt.storage.records import unreadable

FORMAT = "abrupt-attention-2"
STORAGE = {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True}


def write_attention(
    path: str | Path,
    patterns: dict[str, dict[str, np.ndarray]],
    dimensions: dict[str, tuple[str, ...]],
    attributes: dict[str, Any],
    identity: Identity,
) -> None:
    """Write `patterns`, dataset name -> array for each mask pattern, atomically."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as stream:
        stream.attrs["format"] = FORMAT
        stream.attrs["identity"] = canonical_json(identity)
        for name, value in attributes.items():
            stream.attrs[name] = value
        for pattern, datasets in patterns.items():
            group = stream.create_group(pattern)
            for name, array in datasets.items():
                dataset = group.create_dataset(name, data=array, **STORAGE)
                for axis, label in zip(dataset.dims, dimensions[name], strict=True):
                    axis.label = label
    write_atomically(path, buffer.getvalue())


def read_attention(path: str | Path, names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Root attributes, and the datasets called `names` of every mask pattern.

    Raises DamagedFileError if the file is missing, truncated or not of this format, UnreadableFileError if it cannot be
    opened or another program locks it, as a notebook does that has it open for writing.
    """
    try:
        with open(path, "rb") as stream:
            stream.read(1)
    except FileNotFoundError as error:
        raise DamagedFileError(f"{path}: is missing: run again") from error
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        with h5py.File(path, "r") as stream:
            attributes = dict(stream.attrs)
            if attributes.get("format") != FORMAT:
                raise DamagedFileError(f"{path}: not an attention file of format {FORMAT}: delete it and run again")
            return attributes, {pattern: {name: group[name][()] for name in names} for pattern, group in stream.items()}
    except (OSError, KeyError, RuntimeError) as error:
        if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
            raise UnreadableFileError(
                f"{path}: another program has it open for writing (a notebook?): close it there and run again"
            ) from error
        raise DamagedFileError(f"{path}: not a complete HDF5 file ({error}): delete it and run again") from error
