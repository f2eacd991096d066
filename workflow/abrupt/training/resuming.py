"""Resumable runs: training that survives being killed, with the same bits in the end, and is never done twice.

A run lives in an entry of the store (`abrupt.storage.store`), named after its identity and its circumstances: half-done
work goes on under the same circumstances alone, finished work is good under any. How long a run is to be is no part of
its identity: a longer one goes on from the end of a shorter one, and a shorter one is read off a longer one.

`lock` in the entry is held while a trainer works there; a second one waits. `.wanted/` in the store names, for every
result, the entry that was asked for last: a trainer of another one, left over from a killed driver, gives way at its
next save and publishes nothing.
"""

import json
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from abrupt.errors import DamagedFileError, InputError
from abrupt.storage.checkpoints import read_tensors, write_tensors
from abrupt.storage.files import write_atomically, write_csv
from abrupt.storage.identity import configuration, differing_keys, digest
from abrupt.storage.records import read_record, write_records
from abrupt.storage.store import Entry, entries, entries_of, set_aside
from abrupt.training.loop import Trainer

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOG_LINES = 10
PROOF_STEPS = 200
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Saves:
    """The last two states of a trainer, in a folder."""

    def __init__(self, folder: Path, about: dict[str, Any]):
        self.last, self.previous = folder / "last.safetensors", folder / "previous.safetensors"
        self.about = about

    def save(self, trainer: Trainer) -> None:
        """Replace the state by the trainer's. Raises InputError at non-finite weights, and leaves it as it was."""
        state = trainer.state()
        for name, value in state.items():
            if name.startswith("model.") and not value.isfinite().all():
                raise InputError(
                    f"{name.removeprefix('model.')} is not finite after step {trainer.step}: "
                    "lower pretrain.learning_rate or raise pretrain.warmup_steps"
                )
        if self.last.exists():
            os.replace(self.last, self.previous)
        write_tensors(self.last, state, {**self.about, "step": trainer.step})

    def read(self) -> dict[str, Tensor] | None:
        """The last state, or the one before if the last is damaged, which is set aside; None if there is none.

        Raises UnreadableFileError, and changes nothing, if a state is there and cannot be opened.
        """
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                return read_tensors(path)
            except DamagedFileError as error:
                logger.warning("%s (it is set aside as %s.damaged, and the save before is used)", error, path.name)
                set_aside(path)
        return None


class Run:
    """One run, in its entry of the store. `about` is what `abrupt.storage.records.about_result` says of it."""

    def __init__(self, store: str | Path, about: dict[str, Any]):
        self.store = Path(store)
        self.entry = Entry(self.store / f"{digest(about['identity'])}-{digest(about['circumstances'])[:6]}")
        self.folder = self.entry.folder
        stored = self.entry.about or {}
        accepted = {"accepted": stored["accepted"]} if "accepted" in stored else {}
        self.about = {**accepted, **about}
        self.saves = Saves(self.folder, self.about)
        self.lock, self.owner = self.folder / "lock", self.folder / "owner"

    @contextmanager
    def locked(self, result: str | Path) -> Iterator[None]:
        """Hold the run, to put it at the path `result`; wait, saying so, while another trainer has it."""
        self.wanted = self.store / ".wanted" / digest(str(result))
        write_atomically(self.wanted, self.folder.name.encode())
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning("%s works on %s: waiting until it has finished or is killed", self._holder(), self.folder)
            try:
                lock.acquire(poll_interval=0.2)
            except FileNotFoundError as error:
                raise self._deleted() from error
        try:
            # Held open, so that no other file can get the same inode meanwhile.
            self.lock_inode = self.lock.stat().st_ino
            self.check_in_charge()
            write_atomically(self.owner, f"process {os.getpid()} on {socket.gethostname()}".encode())
            for leftover in self.folder.glob(".*.tmp"):  # of a trainer that was killed while writing
                leftover.unlink()
            self.describe(result)
            yield
        finally:
            self.owner.unlink(missing_ok=True)
            lock.release()

    def _holder(self) -> str:
        try:
            return self.owner.read_text(encoding="utf-8")
        except FileNotFoundError:
            return "another trainer"

    def _deleted(self) -> InputError:
        return InputError(f"{self.folder}: deleted while a trainer was at work on it: run the same command again")

    def describe(self, *results: str | Path) -> None:
        """Write run.json, with the paths of results that are made from the run."""
        known = (self.entry.about or {}).get("results", [])
        content = {**self.about, "results": sorted({*known, *map(str, results)})}
        write_atomically(self.folder / "run.json", f"{json.dumps(content, indent=1, sort_keys=True)}\n".encode())

    def check_in_charge(self) -> None:
        """Raise InputError if the lock was deleted under this trainer, so that it no longer keeps others out, or if a
        trainer of another identity was started for the same result later."""
        if not self.lock.exists() or self.lock.stat().st_ino != self.lock_inode:
            raise self._deleted()
        if self.wanted.exists() and self.wanted.read_text(encoding="utf-8") != self.folder.name:
            raise InputError(
                "a run of another configuration was started since for the same result: "
                f"this one gives way, and its progress stays in {self.folder}"
            )

    def write_checkpoint(self, weights: dict[str, Tensor], step: int) -> None:
        """The model's weights after `step` updates."""
        path = self.entry.checkpoint(step)
        write_tensors(path, weights, {**self.about, "step": step})
        path.chmod(0o444)  # results are links to it: an edit of one would be an edit of both
        self.entry.add_sum(path)

    def missing(self, checkpoint_steps: set[int], until: int) -> set[int]:
        """The checkpoints up to the step `until` that are not here."""
        return {step for step in checkpoint_steps if step <= until and not self.entry.has_checkpoint(step)}


def train(
    trainer: Trainer,
    store: str | Path,
    about: dict[str, Any],
    save_every: int,
    outputs: dict[str, Any],
    accept_code: str = "none",
    before_training: Callable[[int], None] = lambda updates: None,
) -> None:
    """Train for `trainer.schedule.steps` updates, from wherever the store is, and put the results at `outputs`:
    `training`, the path of the loss curve, and `weights`, paths called step<step>.safetensors.

    SIGTERM, SIGINT and SIGHUP save and exit with 128 + the signal's number; SIGKILL costs at most `save_every` steps.
    `accept_code` is the key of the configuration: whether a run of the same configuration by other code will do.
    `before_training` is called with the number of updates that are to come, unless the store has the run.
    """
    steps = trainer.schedule.steps
    weights = {int(Path(path).stem.removeprefix("step")): path for path in outputs["weights"]}
    checkpoint_steps = set(weights)
    run = Run(store, about)
    with run.locked(outputs["training"]):
        complete = [run.entry, *entries_of(run.store, about["identity"])]
        entry = next((entry for entry in complete if entry.covers(steps, checkpoint_steps)), None)
        if entry is None and accept_code != "none":
            entry = _accepted(trainer, run, steps, checkpoint_steps, accept_code)
        if entry is None:
            _warn_of_other_progress(run)
            before_training(max(steps - run.entry.step, 0))
            _train_to_end(trainer, run, steps, checkpoint_steps, save_every)
            entry = run.entry
        else:
            logger.info("the store has this run in %s: nothing is trained", entry.folder)
        run.check_in_charge()
        _publish(entry, trainer.columns, steps, outputs["training"], weights)


def _accepted(trainer: Trainer, run: Run, steps: int, checkpoint_steps: set[int], accept_code: str) -> Entry | None:
    """An entry made of a run of the same configuration by other code, which it says; None if the store has no such.

    With `accept_code` proved the first steps are run again and must give the logged rows bit for bit, else InputError.
    """
    wanted = configuration(run.about["identity"])
    for old in entries(run.store):
        about = old.about
        if about and configuration(about["identity"]) == wanted and old.covers(steps, checkpoint_steps):
            proof = _proof(trainer, run, old) if accept_code == "proved" else "unproven"
            accepted = {"from": digest(about["identity"]), "proof": proof}
            of_new = {**run.about, "circumstances": about["circumstances"], "accepted": accepted}
            return _adopt(old, Run(run.store, of_new))
    return None


def _proof(trainer: Trainer, run: Run, old: Entry) -> str:
    """Run the first steps again. Raises InputError unless they give the rows of `old` bit for bit."""
    log_every = trainer.schedule.log_every
    steps = min(trainer.schedule.steps, max(PROOF_STEPS // log_every, 1) * log_every)
    differences = differing_keys(old.about["circumstances"], run.about["circumstances"])
    if differences:
        raise InputError(
            f"{old.folder}: this run cannot be proved equal here, since it was trained under other circumstances "
            f"({'; '.join(differences)}): accept it with --config accept_code=unproven, or train anew"
        )
    logger.info("running the first %d steps again, to compare them with %s", steps, old.folder)
    while trainer.step < steps:
        trainer.advance()
    logged = read_tensors(old.last)["rows"][: len(trainer.rows)].tolist()
    for one, other in zip(logged, trainer.rows, strict=True):
        if not all(a == b or (a != a and b != b) for a, b in zip(one, other, strict=True)):
            raise InputError(
                f"{old.folder}: the code gives other numbers now, from the row of step {one[0]:.0f} on, so this run "
                "cannot be accepted as proved: train anew, or accept it with --config accept_code=unproven"
            )
    return f"the first {steps} steps give the same rows bit for bit"


def _adopt(old: Entry, new: Run) -> Entry:
    """Copy an entry to another identity, which is written into every file."""
    for name in old.sums():
        step = int(Path(name).stem.removeprefix("step"))
        if old.has_checkpoint(step):
            new.write_checkpoint(read_tensors(old.checkpoint(step)), step)
    write_tensors(new.saves.last, read_tensors(old.last), {**new.about, "step": old.step})
    new.describe(*old.about["results"])
    return new.entry


def _warn_of_other_progress(run: Run) -> None:
    """Say which states of this run lie further on, but were made under other circumstances."""
    for other in entries_of(run.store, run.about["identity"]):
        if other.step > run.entry.step:
            made_under = read_record(other.last)["circumstances"]
            logger.warning(
                "%s: progress to step %d is left there and not gone on with, since it was made under other "
                "circumstances (%s)",
                other.folder,
                other.step,
                "; ".join(differing_keys(made_under, run.about["circumstances"])),
            )


def _train_to_end(trainer: Trainer, run: Run, steps: int, checkpoint_steps: set[int], save_every: int) -> None:
    state = run.saves.read()
    if state is not None:
        done = int(state["step"])
        missing = run.missing(checkpoint_steps, done)
        if missing:
            logger.info("training from the start once more, for the weights at steps %s", sorted(missing))
            again = Saves(run.folder / "again", run.about)
            begun = again.read()
            if begun is not None and int(begun["step"]) < min(missing):
                trainer.load_state(begun)
            trainer.schedule = replace(trainer.schedule, steps=max(missing))
            _advance(trainer, run, again, missing, save_every)
            trainer.schedule = replace(trainer.schedule, steps=steps)
            _remove(run.folder / "again")
        trainer.load_state(state)
        logger.info("resuming after step %d from %s", trainer.step, run.folder)
    _advance(trainer, run, run.saves, checkpoint_steps, save_every)
    run.saves.previous.unlink(missing_ok=True)


def _advance(trainer: Trainer, run: Run, saves: Saves, checkpoint_steps: set[int], save_every: int) -> None:
    """Train to the end of the schedule, with saves, and the weights at `checkpoint_steps`."""

    def write_checkpoint() -> None:
        trainer.check_finite()
        run.write_checkpoint(trainer.model.state_dict(), trainer.step)

    if trainer.step == 0 and 0 in checkpoint_steps:
        write_checkpoint()
    with _stop_signals() as received, _Progress(trainer) as progress:
        while not trainer.finished:
            trainer.advance()
            progress.update()
            if trainer.step in checkpoint_steps:
                write_checkpoint()
            if trainer.step % save_every == 0 or trainer.finished or received:
                run.check_in_charge()
                saves.save(trainer)
            if received:
                name = signal.Signals(received[0]).name
                logger.info("%s: saved after step %d; run the same command to go on", name, trainer.step)
                sys.exit(128 + received[0])


def _remove(folder: Path) -> None:
    """Remove a folder; if that cannot be done, as on some network file systems, it stays, with a warning."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        logger.warning("%s: could not be removed (%s): delete it by hand", folder, error.strerror)


def _publish(entry: Entry, columns: Iterable[str], steps: int, training: str, weights: dict[int, str]) -> None:
    """Put the rows of the first `steps` updates and the weights of an entry that covers them at the declared paths."""
    rows = pd.DataFrame(read_tensors(entry.last)["rows"].tolist(), columns=list(columns)).astype({"step": int})
    about = {key: value for key, value in entry.about.items() if key != "results"}
    write_csv(training, rows[rows["step"] <= steps])
    write_records([training], {**about, "steps": steps})
    for step, path in weights.items():
        link_or_copy(entry.checkpoint(step), Path(path))


def link_or_copy(source: Path, target: Path) -> None:
    """Put a file at another path as well: as a hard link, or as a copy where the file system has no such."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # of a killed trainer that had this number
    try:
        os.link(source, temporary)
    except OSError:
        write_atomically(target, source.read_bytes())
    else:
        os.replace(temporary, target)
        temporary.unlink(missing_ok=True)  # a rename onto a link to the same file leaves it
        os.utime(target)  # Snakemake wants a job's outputs to be newer than its inputs


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that receives the numbers of stop signals, so that the loop can end between two steps."""
    received: list[int] = []
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()  # by nohup
    numbers = [number for number in STOP_SIGNALS if number not in ignored]
    handlers = {number: signal.signal(number, lambda signum, frame: received.append(signum)) for number in numbers}
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
