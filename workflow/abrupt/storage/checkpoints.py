"""Weights as safetensors files that say which run made them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from abrupt.errors import DamagedFileError
from abrupt.models.bert import Bert, build_bert
from abrupt.models.gpt import Gpt, build_decoder
from abrupt.storage.files import write_atomically
from abrupt.storage.identity import canonical_json
from abrupt.storage.records import METADATA_KEY, read_record, unreadable
from abrupt.task import Task


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    """Named tensors to `path`, atomically, with `about` as JSON metadata."""
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # One metadata key: safetensors writes several in an order that changes from process to process.
    write_atomically(path, safetensors.torch.save(content, {METADATA_KEY: canonical_json(about)}))


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors in `path`. Raises DamagedFileError if it is missing or damaged, UnreadableFileError if it cannot be
    opened."""
    try:
        # Not by safetensors' own reader, which calls a file missing that cannot be opened.
        return safetensors.torch.load(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise DamagedFileError(f"{path}: is missing: run again") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except safetensors.SafetensorError as error:
        raise DamagedFileError(f"{path}: not a complete safetensors file ({error}): delete it and run again") from error


def load_model(path: str | Path) -> Bert | Gpt:
    """The model in a checkpoint of any training run, in eval mode and without gradients, on the CPU.

    Raises DamagedFileError if the file is damaged or was not written by this workflow, UnreadableFileError if it cannot
    be opened.
    """
    weights = read_tensors(path)
    record = read_record(path)
    if record is None:
        raise DamagedFileError(f"{path}: not written by this workflow: delete it and run again")
    identity = record["identity"]
    build = build_decoder if identity["kind"] == "decoder" else build_bert
    model = build(Task(**identity["task"]), identity["model"])
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DamagedFileError(f"{path}: its weights do not fit the model: delete it and run again") from error
    return model.eval().requires_grad_(False)


class Checkpoints(Mapping[int, Bert]):
    """Step -> model, for `paths` (step -> file); a model is loaded when asked for.

    Raises InputError if a file is damaged or cannot be opened.
    """

    def __init__(self, paths: dict[int, str], device: str):
        self.paths, self.device = paths, device

    def __getitem__(self, step: int) -> Bert:
        return load_model(self.paths[step]).to(self.device)

    def __iter__(self) -> Iterator[int]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)
