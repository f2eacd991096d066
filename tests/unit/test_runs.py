"""Training that is killed, resumed, waited for, or finds damaged files."""

import errno
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tiny_run import outputs, tiny_trainer

from abrupt.errors import InputError
from abrupt.training.resuming import RunState, train

STEPS = 3000
TINY_RUN = Path(__file__).with_name("tiny_run.py")


def start(root, out, steps=STEPS):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "workflow")}
    command = [sys.executable, str(TINY_RUN), str(root), str(out), str(steps)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def wait_for_save(root, process, after=0.0):
    """Wait until a state newer than time `after` is on disk."""
    while process.poll() is None:
        if any(path.stat().st_mtime > after for path in root.glob("*/last.safetensors")):
            return
        time.sleep(0.01)
    raise AssertionError("the run ended before it saved")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder / "state", folder).wait() == 0
    return {Path(path).name: Path(path).read_bytes() for path in outputs(folder, STEPS)}


@pytest.mark.slow
def test_killed_three_times_ends_with_the_same_bytes(tmp_path, undisturbed):
    moments = random.Random(3)
    root = tmp_path / "state"
    for _ in range(3):
        begun = time.time()
        process = start(root, tmp_path)
        wait_for_save(root, process, begun)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "killed too late: the run had ended"
    process = start(root, tmp_path)
    log = process.communicate()[0]
    assert "resuming after step" in log
    assert {Path(path).name: Path(path).read_bytes() for path in outputs(tmp_path, STEPS)} == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_saves_and_exits_with_128_and_its_number(tmp_path, undisturbed, number):
    root = tmp_path / "state"
    process = start(root, tmp_path)
    wait_for_save(root, process)
    process.send_signal(number)
    assert f"{number.name}: saved after step" in process.communicate()[0]
    assert process.returncode == 128 + number
    assert start(root, tmp_path).wait() == 0
    assert (tmp_path / "training.csv").read_bytes() == undisturbed["training.csv"]


@pytest.mark.slow
def test_second_trainer_waits_and_publishes_what_the_first_finished(tmp_path, undisturbed):
    root = tmp_path / "state"
    first = start(root, tmp_path / "first")
    wait_for_save(root, first)
    first.send_signal(signal.SIGSTOP)  # so that it cannot finish before the second one is there
    second = start(root, tmp_path / "second")
    line = second.stdout.readline()
    assert f"process {first.pid}" in line and "waiting" in line
    first.send_signal(signal.SIGCONT)
    log = second.communicate()[0]
    assert first.wait() == 0 and second.returncode == 0
    assert "step " not in log, "the second one trained"
    assert (tmp_path / "second" / "training.csv").read_bytes() == undisturbed["training.csv"]


@pytest.mark.slow
def test_trainer_of_an_older_configuration_gives_way_to_the_one_that_waits(tmp_path):
    root, out = tmp_path / "state", tmp_path / "out"
    older = start(root, out)
    wait_for_save(root, older)
    older.send_signal(signal.SIGSTOP)  # so that it cannot finish before the newer one is there
    newer = start(root, out, steps=200)
    assert "waiting" in newer.stdout.readline()
    older.send_signal(signal.SIGCONT)
    assert newer.wait() == 0 and older.wait() == 1
    assert sorted(path.name for path in out.iterdir()) == sorted(Path(path).name for path in outputs(out, 200))
    assert (RunState(root, {"steps": STEPS}, {"threads": 1}).directory / "last.safetensors").exists()


def train_tiny(folder, steps=200, run=None, **changes):
    state = RunState(folder / "state", run=run or {"steps": steps}, environment={})
    train(tiny_trainer(steps, **changes), state, (0, 100, steps), 20, outputs(folder, steps))
    return state


def interrupted(folder, monkeypatch):
    """A state as left by a run that was killed after its save at step 120."""
    state = RunState(folder / "state", run={"steps": 200}, environment={})
    trainer = tiny_trainer(200)

    def killed(trainer):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunState, "finish", killed)
        advance = trainer.advance
        trainer.advance = lambda: advance() if trainer.step < 130 else killed(trainer)
        train(trainer, state, (0, 100, 200), 20, outputs(folder, 200))
    return state


def test_resumes_from_the_last_save(tmp_path, monkeypatch, caplog):
    interrupted(tmp_path / "a", monkeypatch)
    with caplog.at_level("INFO"):
        train_tiny(tmp_path / "a")
    assert "resuming after step 120" in caplog.text
    train_tiny(tmp_path / "b")
    assert (tmp_path / "a" / "training.csv").read_bytes() == (tmp_path / "b" / "training.csv").read_bytes()


def test_truncated_save_falls_back_on_the_one_before(tmp_path, monkeypatch, caplog):
    state = interrupted(tmp_path, monkeypatch)
    os.truncate(state.last, 1000)
    with caplog.at_level("INFO"):
        train_tiny(tmp_path)
    assert f"{state.last}: not a complete safetensors file" in caplog.text
    assert "resuming after step 100" in caplog.text


def test_save_of_another_configuration_is_refused(tmp_path, monkeypatch):
    state = interrupted(tmp_path, monkeypatch)
    foreign = RunState(tmp_path / "state", run={"steps": 400}, environment={})
    foreign.directory.mkdir()
    os.rename(state.last, foreign.last)
    with pytest.raises(InputError, match=r"last.safetensors: made with another configuration \(steps: 200 -> 400\)"):
        train_tiny(tmp_path, steps=400)


@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, 1000), os.unlink], ids=["truncated", "missing"])
def test_damaged_checkpoint_is_named_and_its_remedy_works(tmp_path, monkeypatch, damage):
    state = interrupted(tmp_path, monkeypatch)
    damage(state.checkpoint(100))
    with pytest.raises(InputError, match=f"step100.safetensors: missing or damaged.*delete {state.directory} and run"):
        train_tiny(tmp_path)
    shutil.rmtree(state.directory)
    train_tiny(tmp_path)
    assert (tmp_path / "training.csv").exists()


def test_publishing_again_leaves_nothing_beside_the_results(tmp_path):
    train_tiny(tmp_path)
    train_tiny(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_file_changed_after_the_run_finished_is_not_published(tmp_path):
    state = train_tiny(tmp_path)
    os.truncate(state.checkpoint(100), 1000)
    with pytest.raises(InputError, match="step100.safetensors: missing or changed after the run had finished"):
        train_tiny(tmp_path)


def test_full_disk_is_one_line_and_the_last_save_stays(tmp_path, monkeypatch):
    state = interrupted(tmp_path, monkeypatch)
    saved = state.last.read_bytes()

    sync = os.fsync

    def no_space(descriptor):
        if "last.safetensors" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"last.safetensors: no space left") as error:
        patch.setattr(os, "fsync", no_space)
        train_tiny(tmp_path)
    assert "\n" not in str(error.value)
    assert saved in (state.last.read_bytes() if state.last.exists() else b"", state.previous.read_bytes())
    assert not list(state.directory.glob(".*tmp"))


def test_diverging_run_leaves_the_last_good_state(tmp_path):
    with pytest.raises(InputError, match="learning_rate"):
        train_tiny(tmp_path, learning_rate=1e30, warmup_steps=0)
    state = RunState(tmp_path / "state", run={"steps": 200}, environment={})
    assert state.checkpoint(0).exists() and not state.finished.exists()


def test_finished_run_is_not_published_once_another_configuration_was_started(tmp_path, monkeypatch):
    finish = RunState.finish

    def another_is_started_then(state, trainer):
        finish(state, trainer)
        state.wanted.write_text("another")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="a run of another configuration was started"):
        patch.setattr(RunState, "finish", another_is_started_then)
        train_tiny(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    train_tiny(tmp_path)
    assert (tmp_path / "training.csv").exists()


def test_trainer_stops_at_its_next_save_when_its_state_was_deleted(tmp_path):
    state, trainer = RunState(tmp_path / "state", run={"steps": 200}, environment={}), tiny_trainer(200)
    advance = trainer.advance

    def deleted_at_step_50():
        advance()
        if trainer.step == 50:
            shutil.rmtree(state.root)

    trainer.advance = deleted_at_step_50
    with pytest.raises(InputError, match="state: deleted while a trainer was at work on it: run the same command"):
        train(trainer, state, (0, 100, 200), 20, outputs(tmp_path, 200))
    assert trainer.step == 60
    train_tiny(tmp_path)
    assert (tmp_path / "training.csv").exists()


def test_waiting_trainer_stops_when_the_state_is_deleted(tmp_path):
    root = tmp_path / "state"
    root.mkdir()
    with open(root / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        deletion = threading.Timer(0.3, shutil.rmtree, [root])
        deletion.start()
        with pytest.raises(InputError, match="state: deleted while a trainer was at work on it"):
            train_tiny(tmp_path)
        deletion.join()


def test_no_owner_is_named_after_the_end(tmp_path):
    assert not train_tiny(tmp_path).owner.exists()
