"""Resumable runs: training that survives being killed, with the same bits in the end.

Snakemake deletes declared outputs before a job and after a failure, so a run keeps what it has in a
state directory, `<root>/<fingerprint>/`, named after everything that its results depend on:

    last.safetensors      weights, Adam moments, step, logged rows
    previous.safetensors  the save before, should the last one be damaged
    step*.safetensors     checkpoints reached so far
    finished.json         the run is complete: its files and their SHA-256

`<root>/lock` is held while a trainer works on this run in any configuration; a second one waits.
`<root>/wanted` names the state directory of the trainer that was started last: one of an older
configuration, left over from a killed driver, gives way at its next save and publishes nothing. When
the run is complete its files are put at the declared paths, and kept here too (as hard links, where
the file system has them) until the workflow has succeeded: Snakemake throws away the outputs of a job
whose driver was killed, finished or not.
"""

import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from abrupt.errors import DamagedFileError, InputError
from abrupt.storage.checkpoints import read_tensors, write_tensors
from abrupt.storage.files import canonical_json, fingerprint, sha256, write_atomically, write_csv
from abrupt.training.loop import Trainer

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOG_LINES = 10


def environment_of(device: str, threads: int, code: Iterable[str], **inputs: str) -> dict[str, Any]:
    """What bits depend on besides the configuration: device, threads, PyTorch, the `code` files, and the
    files called `inputs`."""
    return {
        "device": device,  # not which GPU: a queue may give another one to who resumes
        "threads": threads,
        "torch": torch.__version__,
        "code": {"/".join(Path(path).parts[-2:]): sha256(path) for path in code},
        "inputs": {name: sha256(path) for name, path in inputs.items()},
    }


class RunState:
    """What is on disk of one run, under `root`. `run` is its configuration, written into every file;
    `environment` is what bits depend on besides (threads, device, code, torch version)."""

    def __init__(self, root: str | Path, run: dict[str, Any], environment: dict[str, Any]):
        self.root, self.run, self.environment = Path(root), run, environment
        self.directory = self.root / fingerprint({"run": run, "environment": environment})
        self.last = self.directory / "last.safetensors"
        self.previous = self.directory / "previous.safetensors"
        self.finished = self.directory / "finished.json"
        self.lock, self.owner, self.wanted = self.root / "lock", self.root / "owner", self.root / "wanted"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run; wait, saying so, while another trainer does."""
        write_atomically(self.wanted, self.directory.name.encode())
        lock = FileLock(self.lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning("%s works on %s: waiting until it has finished or is killed", self._holder(), self.root)
            try:
                lock.acquire(poll_interval=0.2)
            except FileNotFoundError as error:
                raise self._deleted() from error
        try:
            # Held open, so that no other file can get the same inode meanwhile.
            self.lock_inode = self.lock.stat().st_ino
            self.check_in_charge()
            write_atomically(self.owner, f"process {os.getpid()} on {socket.gethostname()}".encode())
            for leftover in self.directory.glob(".*.tmp"):  # of a trainer that was killed while writing
                leftover.unlink()
            yield
        finally:
            self.owner.unlink(missing_ok=True)
            lock.release()

    def _holder(self) -> str:
        try:
            return self.owner.read_text()
        except FileNotFoundError:
            return "another trainer"

    def _deleted(self) -> InputError:
        return InputError(f"{self.root}: deleted while a trainer was at work on it: run the same command again")

    def check_in_charge(self) -> None:
        """Raise InputError if the lock was deleted under this trainer, so that it no longer keeps others
        out, or if a trainer of another configuration was started later."""
        if not self.lock.exists() or self.lock.stat().st_ino != self.lock_inode:
            raise self._deleted()
        if self.wanted.exists() and self.wanted.read_text() != self.directory.name:
            raise InputError(
                f"{self.root}: a run of another configuration was started since: "
                f"this one gives way, its progress stays in {self.directory}"
            )

    def save(self, trainer: Trainer) -> None:
        """Replace the resumable state by the trainer's. Raises InputError at non-finite weights or if this
        trainer is no longer in charge, and leaves the state as it was."""
        self.check_in_charge()
        state = trainer.state()
        for name, value in state.items():
            if name.startswith("model.") and not value.isfinite().all():
                raise InputError(
                    f"{name.removeprefix('model.')} is not finite after step {trainer.step}: "
                    "lower pretrain.learning_rate or raise pretrain.warmup_steps"
                )
        if self.last.exists():
            os.replace(self.last, self.previous)
        write_tensors(self.last, state, self.run)

    def resume(self, trainer: Trainer, checkpoint_steps: Iterable[int]) -> None:
        """Put the trainer where the last save left it; a damaged save falls back on the one before.

        Raises InputError if a save is of another run or a checkpoint that it relies on is damaged.
        """
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                trainer.load_state(read_tensors(path, self.run))
            except DamagedFileError as error:
                logger.warning("%s (falling back on the save before)", error)
                path.unlink()  # so that the next save does not put it in the place of the good one
                continue
            for step in checkpoint_steps:
                if step <= trainer.step:
                    self._check_complete(self.checkpoint(step))
            logger.info("resuming after step %d from %s", trainer.step, path)
            return

    def _check_complete(self, path: Path) -> None:
        """Raise DamagedFileError unless `path` holds weights of this run."""
        try:
            read_tensors(path, self.run)
        except DamagedFileError as error:
            raise DamagedFileError(
                f"{path}: missing or damaged, and training is past it: delete {self.directory} and run again"
            ) from error

    def checkpoint(self, step: int) -> Path:
        return self.directory / f"step{step}.safetensors"

    def write_checkpoint(self, trainer: Trainer) -> None:
        """The model's weights after the trainer's last step. Raises InputError if the loss is lost."""
        trainer.check_finite()
        write_tensors(
            self.checkpoint(trainer.step),
            trainer.model.state_dict(),
            self.run,
            step=trainer.step,
            environment=self.environment,
        )

    def finish(self, trainer: Trainer) -> None:
        """Write what is logged and mark the run complete; the resumable state is no longer needed."""
        table = pd.DataFrame(trainer.rows, columns=trainer.columns).astype({"step": int})
        write_csv(self.directory / "training.csv", table)
        files = [path for path in self.directory.iterdir() if path.name.startswith(("step", "training"))]
        manifest = {path.name: sha256(path) for path in files}
        write_atomically(self.finished, canonical_json(manifest).encode())
        self.last.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)

    def publish(self, outputs: Iterable[str]) -> None:
        """Put the complete run's files at the declared paths, by file name.

        Raises InputError if a file was changed since, or if another run's are wanted there by now.
        """
        self.check_in_charge()
        for output in map(Path, outputs):
            source = self.directory / output.name
            if not self._is_as_finished(source):
                raise DamagedFileError(
                    f"{source}: missing or changed after the run had finished: delete {self.directory} and run again"
                )
            output.parent.mkdir(parents=True, exist_ok=True)
            temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
            temporary.unlink(missing_ok=True)  # of a killed trainer that had this number
            try:
                os.link(source, temporary)
            except OSError:  # no hard links here
                write_atomically(output, source.read_bytes())
            else:
                os.replace(temporary, output)
                temporary.unlink(missing_ok=True)  # a rename onto a link to the same file leaves it

    def _is_as_finished(self, path: Path) -> bool:
        try:
            return json.loads(self.finished.read_text())[path.name] == sha256(path)
        except (OSError, ValueError, KeyError):
            return False


def train(
    trainer: Trainer, state: RunState, checkpoint_steps: Iterable[int], save_every: int, outputs: Iterable[str]
) -> None:
    """Train to the end, from wherever the state on disk is, and put the results at `outputs`.

    SIGTERM and SIGINT save and exit with 128 + the signal's number; SIGKILL costs at most `save_every` steps.
    """
    checkpoint_steps = set(checkpoint_steps)
    with state.locked():
        if not state.finished.exists():
            state.resume(trainer, checkpoint_steps)
            _train_to_end(trainer, state, checkpoint_steps, save_every)
            state.finish(trainer)
        state.publish(outputs)


def _train_to_end(trainer: Trainer, state: RunState, checkpoint_steps: set[int], save_every: int) -> None:
    steps = trainer.schedule.steps
    if trainer.step == 0 and 0 in checkpoint_steps:
        state.write_checkpoint(trainer)
    with _stop_signals() as received, _Progress(trainer) as progress:
        while not trainer.finished:
            trainer.advance()
            progress.update()
            if trainer.step in checkpoint_steps:
                state.write_checkpoint(trainer)
            if trainer.step % save_every == 0 or trainer.step == steps or received:
                state.save(trainer)
            if received:
                name = signal.Signals(received[0]).name
                logger.info("%s: saved after step %d; run the same command to go on", name, trainer.step)
                sys.exit(128 + received[0])


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that receives SIGTERM and SIGINT, so that the loop can end between two steps."""
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda signum, frame: received.append(signum))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class _Progress:
    """A bar on a terminal; a line with step, loss, speed and ETA in the log every few seconds."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.first_step, self.start = trainer.step, time.monotonic()
        self.last_line = self.start
        self.bar = tqdm(total=trainer.schedule.steps, initial=trainer.step, unit="step", disable=None)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        self._log_line()

    def update(self) -> None:
        self.bar.update()
        if time.monotonic() - self.last_line > SECONDS_BETWEEN_LOG_LINES:
            self._log_line()

    def _log_line(self) -> None:
        self.last_line = time.monotonic()
        trainer, elapsed = self.trainer, self.last_line - self.start
        rate = (trainer.step - self.first_step) / elapsed
        left = (trainer.schedule.steps - trainer.step) / rate if rate else float("nan")
        names = trainer.objective.columns
        values = trainer.rows[-1][1:] if trainer.rows else [float("nan")] * len(names)
        logger.info(
            "step %d/%d  %s  %.1f steps/s  ETA %.0f s",
            trainer.step,
            trainer.schedule.steps,
            "  ".join(f"{name} {value:.4g}" for name, value in zip(names, values, strict=False)),
            rate,
            left,
        )
