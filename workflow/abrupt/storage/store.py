"""The store: every training run under its identity, apart from the results that show it.

Snakemake deletes declared outputs before a job and after a failure, so a run keeps what it has in an entry of the
store, `results/.store/<identity>-<circumstances>/`:

    run.json              what the run is of, and the results that were made from it
    last.safetensors      the furthest state: weights, Adam moments, step, logged rows
    previous.safetensors  the save before, should the last one be damaged; while the run is unfinished
    step*.safetensors     checkpoints
    SHA256SUMS            of the checkpoints
    again/                the state of a run that goes over its past once more, for a checkpoint that is missing

Results are hard links to these checkpoints where the file system has such, else copies. Nothing but the standard
library is needed here: the driver reads the store too.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abrupt.errors import InputError
from abrupt.storage.files import sha256, write_atomically
from abrupt.storage.identity import Identity, digest
from abrupt.storage.records import read_leftover, read_record, unreadable

STORE = ".store"  # in results/


@dataclass(frozen=True)
class Entry:
    """One run in the store."""

    folder: Path

    @property
    def about(self) -> dict[str, Any] | None:
        """What run.json says: identity, circumstances, definitions, results; None if it does not say so."""
        try:
            content = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(self.folder / "run.json", error) from error
        except ValueError:
            return None
        return content if isinstance(content, dict) and "identity" in content else None

    @property
    def last(self) -> Path:
        return self.folder / "last.safetensors"

    @property
    def step(self) -> int:
        """How far the run is: the number of updates in its last state, 0 without one.

        Raises InputError if the state is of another run, and so was put here by hand.
        """
        record = read_record(self.last)
        if record and not self.folder.name.startswith(f"{digest(record['identity'])}-"):
            raise InputError(f"{self.last}: is of another run than its folder is: move it elsewhere and run again")
        return record["step"] if record else 0

    def checkpoint(self, step: int) -> Path:
        return self.folder / f"step{step}.safetensors"

    def has_checkpoint(self, step: int) -> bool:
        """Whether the weights after `step` updates are here, as they were written; damaged ones are set aside."""
        path = self.checkpoint(step)
        try:
            content = sha256(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise unreadable(path, error) from error
        if self.sums().get(path.name) == content:
            return True
        set_aside(path)
        return False

    def sums(self) -> dict[str, str]:
        """File name -> SHA-256 of each checkpoint, as it was written."""
        try:
            lines = (self.folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise unreadable(self.folder / "SHA256SUMS", error) from error
        return {name: content for content, name in (line.split("  ", 1) for line in lines)}

    def add_sum(self, path: Path) -> None:
        """Note the SHA-256 of a checkpoint that has just been written."""
        sums = {**self.sums(), path.name: sha256(path)}
        lines = [f"{content}  {name}\n" for name, content in sorted(sums.items())]
        write_atomically(self.folder / "SHA256SUMS", "".join(lines).encode())

    def covers(self, steps: int, checkpoint_steps: set[int]) -> bool:
        """Whether this run has the logged rows of `steps` updates and the weights at these steps."""
        return self.step >= steps and all(self.has_checkpoint(step) for step in checkpoint_steps)

    @property
    def size(self) -> int:
        """Bytes that removing the entry would free: a file that a result is a link to has another name."""
        files = [path.stat() for path in self.folder.rglob("*") if path.is_file()]
        return sum(file.st_size for file in files if file.st_nlink == 1)


def set_aside(path: Path) -> None:
    """Rename a file with wrong content, so that it is in nobody's way and not lost."""
    number, target = 1, path.with_name(f"{path.name}.damaged")
    while target.exists():
        number, target = number + 1, path.with_name(f"{path.name}.damaged{number}")
    path.rename(target)


def entries(store: Path) -> list[Entry]:
    """Every entry of the store, in the order of their names."""
    folders = sorted(path for path in store.glob("*-*") if path.is_dir()) if store.is_dir() else []
    return [Entry(folder) for folder in folders]


def entries_of(store: Path, identity: Identity) -> list[Entry]:
    """The entries of one identity, made under whatever circumstances."""
    return [entry for entry in entries(store) if entry.folder.name.startswith(f"{digest(identity)}-")]


def unused(store: Path) -> list[Entry]:
    """The entries that no result beside the store was made from, and of which none is to be put back."""
    shown = set()
    for record in store.parent.glob("[!.]*/**/training.json"):
        curve = record.with_suffix(".csv")
        about = read_record(curve) if curve.exists() else read_leftover(curve)
        if about:
            shown.add(digest(about["identity"]))
    return [entry for entry in entries(store) if entry.folder.name.split("-")[0] not in shown]


def remove(entry: Entry) -> None:
    """Delete an entry. Raises OSError if it cannot be removed."""
    shutil.rmtree(entry.folder)
