"""Weights as safetensors files that say which run made them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from abrupt.errors import DamagedFileError
from abrupt.models.bert import Bert, BertConfig
from abrupt.storage.files import canonical_json, write_atomically
from abrupt.storage.identity import check_same_run, read_run
from abrupt.task import Task


def write_tensors(path: str | Path, tensors: dict[str, Tensor], run: dict[str, Any], **extra: Any) -> None:
    """Named tensors to `path`, atomically, with `run` (the configuration) and `extra` as JSON metadata."""
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # One metadata key: safetensors writes several in an order that changes from process to process.
    metadata = {"abrupt": canonical_json({"run": run, **extra})}
    write_atomically(path, safetensors.torch.save(content, metadata))


def read_tensors(path: str | Path, run: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors in `path`. Raises DamagedFileError if it is missing, damaged or foreign, InputError if
    another run made it."""
    check_same_run(path, read_run(path), run)
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise DamagedFileError(f"{path}: not a complete safetensors file ({error}): delete it and run again") from error


def build_model(task: Task, model: dict[str, Any]) -> Bert:
    """An uninitialised model for `task` from the config's `model` section."""
    sizes = {key: value for key, value in model.items() if not key.endswith("_init_std")}
    return Bert(BertConfig(vocab_size=task.vocab_size, **sizes))


def load_model(path: str | Path, run: dict[str, Any]) -> Bert:
    """The model in a checkpoint of the pretraining run `run`, in eval mode.

    Raises InputError if the file is damaged or of another run.
    """
    weights = read_tensors(path, run)
    model = build_model(Task(**run["task"]), run["model"])
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DamagedFileError(f"{path}: its weights do not fit the model: delete it and run again") from error
    return model.eval().requires_grad_(False)


class Checkpoints(Mapping[int, Bert]):
    """Step -> model, for `paths` (step -> file) of the pretraining run `run`; a model is loaded when asked for.

    Raises InputError if a file is damaged or of another run.
    """

    def __init__(self, paths: dict[int, str], run: dict[str, Any], device: str):
        self.paths, self.run, self.device = paths, run, device

    def __getitem__(self, step: int) -> Bert:
        return load_model(self.paths[step], self.run).to(self.device)

    def __iter__(self) -> Iterator[int]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)
