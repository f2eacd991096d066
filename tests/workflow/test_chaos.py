"""Twelve kills, a full disk and a truncated state in one run of the workflow, which ends with the same bytes.

The driver, a trainer, or both get SIGKILL at random moments of the training, counted in steps so that they do not
depend on the machine's speed. After each, the commands of docs/running.md are given.
"""

import errno
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import h5py
import pytest
import yaml
from requirements import unavailable

pytestmark = pytest.mark.extended

SEED = 0
SAVE_EVERY = 100
SETTINGS = ("--config", "scale=smoke", f"pretrain={{save_every: {SAVE_EVERY}}}")
TIMEOUT = 1800  # seconds that anything may take
SNAKEMAKE = (sys.executable, "-m", "snakemake")
GUIDE = Path(__file__).parents[2] / "docs/running.md"


def documented_commands() -> list[list[str]]:
    """What the guide says to do after a kill: lists of arguments of `snakemake`. Here there are two cores."""
    section = GUIDE.read_text(encoding="utf-8").split("## When something was killed")[1]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1].replace("--cores 8", "--cores 2")
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [command[0] for command in commands] == ["snakemake"] * 2
    return [command[1:] for command in commands]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"waited for {TIMEOUT} s"
        time.sleep(0.05)


class Chaos:
    """A run of the workflow: what is done to it, and what it trained."""

    def __init__(self, folder: Path, lengths: dict[str, int], no_small_disk: str):
        self.folder, self.lengths, self.no_small_disk = folder, lengths, no_small_disk
        self.results = folder / "results"
        self.counts = folder / "step_counts"
        self.counts.touch()
        self.read_so_far = 0
        self.trained: list[tuple[str, int, int]] = []  # (run, process, step); a run is called by its folder
        self.drivers = 0
        self.kills = 0
        self.stopped: set[int] = set()  # trainers that were killed, or stopped by the full disk
        self.truncated: list[str] = []  # runs
        self.log_of_full_disk = self.log_of_truncation = self.log_of_orphan = ""
        self.orphans: dict[int, str] = {}  # those that were to finish, with their runs

    def count(self) -> int:
        """Steps trained so far."""
        with open(self.counts) as stream:
            stream.seek(self.read_so_far)
            text = stream.read()
        complete = text[: text.rfind("\n") + 1]
        self.read_so_far += len(complete)
        for run, process, step in map(str.split, complete.splitlines()):
            self.trained.append(
                (run.removeprefix("results/smoke/").removesuffix("/training.csv"), int(process), int(step))
            )
        return len(self.trained)

    def trainers(self, left: int = 1) -> dict[int, str]:
        """Processes that have trained a step and have `left` others to go, with their runs; the latest last."""
        self.count()
        latest = {}
        for run, process, step in self.trained:
            latest.pop(process, None)
            latest[process] = run, step
        return {
            process: run
            for process, (run, step) in latest.items()
            if step + left <= self.lengths[run] and alive(process)
        }

    def log(self) -> str:
        return (self.folder / f"driver{self.drivers}.log").read_text()

    def start(self) -> None:
        """Give the documented commands; the last one is the driver."""
        *before, again = documented_commands()
        for command in before:
            subprocess.run([*SNAKEMAKE, *command], cwd=self.folder, check=True, capture_output=True)
        counter = {"PYTHONPATH": str(Path(__file__).parent / "step_counter"), "STEP_COUNTS": str(self.counts)}
        self.drivers += 1
        with open(self.folder / f"driver{self.drivers}.log", "w") as log:
            self.driver = subprocess.Popen(
                [*SNAKEMAKE, *again, *SETTINGS],
                cwd=self.folder,
                env={**os.environ, **counter},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run_until(self, steps: int) -> None:
        """Until `steps` are trained in all, and at least one from now on, by a trainer that goes on."""
        steps = max(steps, self.count() + 1)

        def reached():
            assert self.driver.poll() is None, self.log()[-3000:]
            return self.count() >= steps and self.trainers()

        wait_until(reached)

    def kill_driver(self) -> None:
        self.kills += 1
        self.driver.kill()
        self.driver.wait()
        self.start()

    def kill_trainer(self) -> None:
        """The driver's own, or an orphan: then the driver's own was waiting for it and takes over."""
        trainer = list(self.trainers())[-1]
        own = os.getpgid(trainer) == self.driver.pid
        self.kills += 1
        self.stopped.add(trainer)
        os.kill(trainer, signal.SIGKILL)
        if own:
            assert self.driver.wait(TIMEOUT) != 0
            self.start()

    def stop_everything(self) -> None:
        trainers = self.trainers()
        self.stopped.update(trainers)
        os.killpg(self.driver.pid, signal.SIGKILL)
        self.driver.wait()
        for orphan in trainers:
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)

    def kill_both(self) -> None:
        self.kills += 1
        self.stop_everything()
        self.start()

    def kill_both_and_truncate_the_state(self) -> None:
        self.kills += 1
        ((trainer, run),) = self.trainers().items()
        (state,) = [
            path.parent
            for path in self.results.glob(".store/*/run.json")
            if f"results/smoke/{run}/training.csv" in json.loads(path.read_text(encoding="utf-8"))["results"]
        ]
        os.kill(trainer, signal.SIGSTOP)
        while not (state / "last.safetensors").exists():  # stopped in a save, between its two renames
            os.kill(trainer, signal.SIGCONT)
            time.sleep(0.01)
            os.kill(trainer, signal.SIGSTOP)
        self.stop_everything()
        os.truncate(state / "last.safetensors", 1000)
        self.truncated.append(run)
        self.start()
        self.run_until(0)
        self.log_of_truncation = self.log()

    def fill_the_disk(self) -> None:
        if self.no_small_disk:
            return
        self.stopped.update(self.trainers())
        filler = self.results / "filler"
        with open(filler, "wb", buffering=0) as stream:
            while self.driver.poll() is None:
                try:
                    stream.write(bytes(4096))
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    time.sleep(0.01)  # and take what is freed
        filler.unlink()
        self.log_of_full_disk = self.log()
        self.start()

    def kill_driver_and_let_the_orphan_finish(self) -> None:
        wait_until(lambda: self.trainers(left=SAVE_EVERY))
        self.orphans = self.trainers(left=SAVE_EVERY)
        for orphan in self.orphans:
            os.kill(orphan, signal.SIGSTOP)  # so that it does not finish before another one waits for it
        self.kill_driver()
        wait_until(lambda: any(f"process {orphan} on" in self.log() for orphan in self.orphans))
        self.log_of_orphan = self.log()
        for orphan in self.orphans:
            os.kill(orphan, signal.SIGCONT)
        wait_until(lambda: not any(map(alive, self.orphans)))


# While the model is pretrained, and while components are, two side by side: there no trainer is killed alone, for its
# driver would let the other one finish before it ended.
IN_PRETRAINING = (
    Chaos.kill_driver,
    Chaos.kill_trainer,
    Chaos.kill_both_and_truncate_the_state,
    Chaos.fill_the_disk,
    Chaos.kill_driver,
    Chaos.kill_trainer,
    Chaos.kill_both,
    Chaos.kill_driver,
    Chaos.kill_trainer,
)
IN_COMPONENTS = (
    Chaos.kill_both,
    Chaos.kill_driver,
    Chaos.kill_driver_and_let_the_orphan_finish,
    Chaos.kill_both,
)


def moments(first: int, steps: int, events: tuple) -> list[tuple]:
    """A random step in each of equal stretches of `steps` from `first` on, with its event."""
    stretch = steps / len(events)
    seeded = random.Random(SEED + first)
    return [(int(first + stretch * (number + seeded.random())), event) for number, event in enumerate(events)]


def mount_small_disk(folder: Path) -> str:
    """Mount 64 MB at `folder`; why not, if it cannot be done."""
    folder.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
        return subprocess.run(mount, capture_output=True, text=True).stderr.strip()
    except FileNotFoundError as error:
        return str(error)


@pytest.fixture(scope="module")
def chaos(smoke_run, new_checkout):
    """The run after all that was done to it."""
    config = yaml.safe_load((smoke_run.folder / "results/smoke/config.yaml").read_text())
    lengths = {"pretrain/seed0": config["pretrain"]["steps"]}
    lengths |= {f"components/{name}/seed0": config["components"]["steps"] for name in config["components"]["names"]}
    folder = new_checkout("chaos").folder
    run = Chaos(folder, lengths, mount_small_disk(folder / "results"))
    # The end of each part is left, so that none comes too late.
    pretraining = lengths["pretrain/seed0"]
    events = moments(0, int(0.8 * pretraining), IN_PRETRAINING)
    events += moments(pretraining, int(0.4 * (sum(lengths.values()) - pretraining)), IN_COMPONENTS)
    try:
        run.start()
        for step, event in events:
            run.run_until(step)
            event(run)
        assert run.driver.wait(TIMEOUT) == 0, run.log()[-3000:]
        run.count()
        yield run
    finally:
        if run.driver.poll() is None:
            run.stop_everything()
        if not run.no_small_disk:
            subprocess.run(["umount", "--lazy", str(run.results)], check=True)


def hdf5_content(path: Path) -> dict:
    """Every attribute and dataset, as bytes."""
    content = {}

    def add(name, item):
        content.update({f"{name}@{key}": repr(value) for key, value in item.attrs.items()})
        if isinstance(item, h5py.Dataset):
            content[name] = (item.shape, item.dtype, item[()].tobytes())

    with h5py.File(path) as stream:
        add("", stream)
        stream.visititems(add)
    return content


def outputs(folder: Path, suffix: str, read=Path.read_bytes) -> dict:
    root = folder / "results/smoke"
    return {str(path.relative_to(root)): read(path) for path in sorted(root.rglob(f"*{suffix}"))}


@pytest.mark.parametrize(
    ("suffix", "read"), [(".csv", Path.read_bytes), (".safetensors", Path.read_bytes), (".h5", hdf5_content)]
)
def test_all_outputs_are_those_of_the_undisturbed_run(chaos, smoke_run, suffix, read):
    undisturbed, disturbed = outputs(smoke_run.folder, suffix, read), outputs(chaos.folder, suffix, read)
    # Other tests may have made more in the folder of the undisturbed run.
    assert disturbed and disturbed.keys() <= undisturbed.keys()
    assert [name for name in disturbed if disturbed[name] != undisturbed[name]] == []


def test_nothing_was_trained_twice_beyond_one_save_interval_a_kill(chaos, capsys):
    trained = chaos.trained
    lines = [f"{chaos.kills} kills, {chaos.drivers} drivers; steps trained, needed, wasted, stopped trainers:"]
    for run, length in chaos.lengths.items():
        steps = [step for name, _, step in trained if name == run]
        processes = list(dict.fromkeys(process for name, process, _ in trained if name == run))
        wasted, stopped = len(steps) - length, processes[:-1]
        lines.append(f"{run}: {len(steps)}, {length}, {wasted}, {len(stopped)}")
        assert set(steps) == set(range(1, length + 1))
        assert set(stopped) <= chaos.stopped, f"{run}: a trainer stopped by itself"
        assert wasted <= SAVE_EVERY * (len(stopped) + chaos.truncated.count(run)), run
    assert chaos.kills >= 10
    lines.append(f"all: {len(trained)}, {sum(chaos.lengths.values())}, {len(trained) - sum(chaos.lengths.values())}")
    with capsys.disabled():
        print("\n" + "\n".join(lines))


def test_an_orphan_finished_before_the_trainer_that_waited_for_it(chaos):
    (waited_for, *_) = [orphan for orphan in chaos.orphans if f"process {orphan} on" in chaos.log_of_orphan]
    run = chaos.orphans[waited_for]
    last = [(process, step) for name, process, step in chaos.trained if name == run][-1]
    assert last == (waited_for, chaos.lengths[run]), "another one trained after it"


def test_truncated_state_fell_back_on_the_save_before(chaos):
    assert "last.safetensors: not a complete safetensors file" in chaos.log_of_truncation
    assert "the save before is used" in chaos.log_of_truncation


def test_full_disk_is_one_line_of_the_job(chaos):
    if chaos.no_small_disk:
        unavailable(f"the disk was not filled, a small one cannot be mounted here: {chaos.no_small_disk}")
    errors = [line for line in chaos.log_of_full_disk.splitlines() if line.startswith("error: ")]
    assert errors, "the disk was not full"
    for error in errors:  # of the trainer, and of another job if one was writing at that time
        assert error.endswith("no space left on the disk: free some and run the same command again")
    assert "Traceback" not in chaos.log_of_full_disk
