"""The HDF5 file of attention maps of one (seed, step): written whole, read with its schema checked.

Root attributes: format, seed, step, matrices, config (JSON), versions (JSON),
query_groups, key_groups. One group a mask pattern; each dataset has its dimension names as labels.
"""

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from abrupt.errors import DamagedFileError
from abrupt.storage.files import canonical_json, write_atomically
from abrupt.storage.identity import check_same_run

FORMAT = "abrupt-attention-1"
STORAGE = {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True}


def write_attention(
    path: str | Path,
    patterns: dict[str, dict[str, np.ndarray]],
    dimensions: dict[str, tuple[str, ...]],
    attributes: dict[str, Any],
    run: dict[str, Any],
) -> None:
    """Write `patterns`, dataset name -> array for each mask pattern, atomically."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as stream:
        stream.attrs["format"] = FORMAT
        stream.attrs["config"] = canonical_json(run)
        for name, value in attributes.items():
            stream.attrs[name] = value
        for pattern, datasets in patterns.items():
            group = stream.create_group(pattern)
            for name, array in datasets.items():
                dataset = group.create_dataset(name, data=array, **STORAGE)
                for axis, label in zip(dataset.dims, dimensions[name], strict=True):
                    axis.label = label
    write_atomically(path, buffer.getvalue())


def read_attention(
    path: str | Path, names: tuple[str, ...], run: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Root attributes, and the datasets called `names` of every mask pattern.

    Raises DamagedFileError if the file is truncated or not of this format, InputError if `run` is
    given and another run made it.
    """
    try:
        with h5py.File(path, "r") as stream:
            attributes = dict(stream.attrs)
            if attributes.get("format") != FORMAT:
                raise DamagedFileError(f"{path}: not an attention file of format {FORMAT}: delete it and run again")
            arrays = {pattern: {name: group[name][()] for name in names} for pattern, group in stream.items()}
    except (OSError, KeyError, RuntimeError) as error:
        raise DamagedFileError(f"{path}: not a complete HDF5 file ({error}): delete it and run again") from error
    if run is not None:
        check_same_run(path, json.loads(attributes["config"]), run)
    return attributes, arrays
