"""Training that is killed, resumed, waited for, lengthened, or finds damaged files; and what the store gives back."""

import builtins
import errno
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny_run import about, outputs, tiny_trainer

from abrupt.errors import InputError
from abrupt.storage.checkpoints import load_model
from abrupt.storage.records import read_record
from abrupt.storage.store import entries
from abrupt.training import resuming
from abrupt.training.resuming import Run, Saves, train

STEPS = 1500
TINY_RUN = Path(__file__).with_name("tiny_run.py")


def start(store, out, steps=STEPS, *more):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "workflow")}
    command = [sys.executable, str(TINY_RUN), str(store), str(out), str(steps), *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def wait_for_save(store, process, after=0.0):
    """Wait until a state newer than time `after` is on disk."""
    while process.poll() is None:
        if any(path.stat().st_mtime > after for path in store.glob("*/last.safetensors")):
            return
        time.sleep(0.01)
    raise AssertionError("the run ended before it saved")


def files(folder):
    """File name -> bytes of what a run published."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stored(folder):
    """Path -> bytes of everything in the store beside what is published in `folder`."""
    return {path: path.read_bytes() for path in (folder / ".store").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder / "store", folder / "out").wait() == 0
    return files(folder / "out")


@pytest.mark.slow
def test_killed_three_times_ends_with_the_same_bytes(tmp_path, undisturbed):
    moments = random.Random(3)
    store = tmp_path / "store"
    for _ in range(3):
        begun = time.time()
        process = start(store, tmp_path / "out")
        wait_for_save(store, process, begun)
        time.sleep(moments.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "killed too late: the run had ended"
    process = start(store, tmp_path / "out")
    log = process.communicate()[0]
    assert "resuming after step" in log
    assert files(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_a_stop_signal_saves_and_exits_with_128_and_its_number(tmp_path, undisturbed):
    store = tmp_path / "store"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        begun = time.time()
        process = start(store, tmp_path / "out")
        wait_for_save(store, process, begun)
        process.send_signal(number)
        assert f"{number.name}: saved after step" in process.communicate()[0]
        assert process.returncode == 128 + number
    assert start(store, tmp_path / "out").wait() == 0
    assert files(tmp_path / "out") == undisturbed


def test_a_hangup_is_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with resuming._stop_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_second_trainer_waits_and_publishes_what_the_first_finished(tmp_path, undisturbed):
    store = tmp_path / "store"
    first = start(store, tmp_path / "first")
    wait_for_save(store, first)
    first.send_signal(signal.SIGSTOP)  # so that it cannot finish before the second one is there
    second = start(store, tmp_path / "second")
    line = second.stdout.readline()
    assert f"process {first.pid}" in line and "waiting" in line
    first.send_signal(signal.SIGCONT)
    log = second.communicate()[0]
    assert first.wait() == 0 and second.returncode == 0
    assert "nothing is trained" in log and "step " not in log
    assert files(tmp_path / "second") == undisturbed


@pytest.mark.slow
def test_trainer_of_an_older_configuration_gives_way_and_its_progress_stays(tmp_path):
    store, out = tmp_path / "store", tmp_path / "out"
    older = start(store, out)
    wait_for_save(store, older)
    (entry,) = entries(store)
    older.send_signal(signal.SIGSTOP)  # so that it cannot finish before the newer one has
    assert start(store, out, 200, "4").wait() == 0
    older.send_signal(signal.SIGCONT)
    assert older.wait() == 1
    assert f"step{STEPS}.safetensors" not in files(out)
    assert read_record(out / "training.csv")["identity"]["pretrain"]["batch_size"] == 4
    assert entry.step > 0


def train_tiny(folder, steps=200, early=(0, 100), accept_code="none", code=None, threads=1, wrong=None, **changes):
    """Train, and return how many updates that took. `wrong` changes the trainer, and nothing that is said of it."""
    trainer, count = tiny_trainer(steps, **{**changes, **(wrong or {})}), 0
    advance = trainer.advance

    def counted():
        nonlocal count
        count += 1
        advance()

    trainer.advance = counted
    said = about(threads, code, **changes)
    train(trainer, folder / ".store", said, 20, outputs(folder / "out", steps, early), accept_code)
    return count


def entry_of(folder, **options):
    return Run(folder / ".store", about(**options)).entry


def interrupted(folder, steps=200, at=130, **options):
    """The entry that a run leaves that is killed after `at` updates, and so after its save before that."""
    trainer = tiny_trainer(steps)
    advance = trainer.advance

    def killed():
        if trainer.step == at:
            raise KeyboardInterrupt
        advance()

    trainer.advance = killed
    with pytest.raises(KeyboardInterrupt):
        train(trainer, folder / ".store", about(**options), 20, outputs(folder / "out", steps))
    return entry_of(folder, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an undisturbed run of 200 steps publishes."""
    folder = tmp_path_factory.mktemp("whole")
    assert train_tiny(folder) == 200
    return files(folder / "out")


def the_one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_resumes_from_the_last_save(tmp_path, whole, caplog):
    interrupted(tmp_path)
    with caplog.at_level("INFO"):
        assert train_tiny(tmp_path) == 80
    assert "resuming after step 120" in caplog.text
    assert files(tmp_path / "out") == whole


def test_truncated_save_is_set_aside_and_the_one_before_is_used(tmp_path, whole, caplog):
    entry = interrupted(tmp_path)
    os.truncate(entry.last, 1000)
    assert train_tiny(tmp_path) == 100
    assert f"{entry.last}: not a complete safetensors file" in caplog.text
    assert (entry.folder / "last.safetensors.damaged").stat().st_size == 1000
    assert files(tmp_path / "out") == whole


def test_truncated_last_state_of_a_finished_run_costs_the_training_and_is_set_aside(tmp_path, whole):
    train_tiny(tmp_path)
    entry = entry_of(tmp_path)
    os.truncate(entry.last, entry.last.stat().st_size - 1)
    assert train_tiny(tmp_path) == 200
    assert (entry.folder / "last.safetensors.damaged").exists()
    assert files(tmp_path / "out") == whole


def test_state_of_another_run_is_refused(tmp_path):
    entry = interrupted(tmp_path)
    other = entry_of(tmp_path, batch_size=4)
    other.folder.mkdir()
    os.rename(entry.last, other.last)
    with pytest.raises(InputError, match=r"last\.safetensors: is of another run") as error:
        train_tiny(tmp_path, batch_size=4)
    the_one_line(error)
    assert other.last.exists()


@pytest.mark.parametrize("finished", [False, True], ids=["unfinished", "finished"])
@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, 1000), os.unlink], ids=["truncated", "missing"])
def test_damaged_checkpoint_costs_the_steps_up_to_it_and_not_the_run(tmp_path, whole, damage, finished):
    if finished:
        train_tiny(tmp_path)
    else:
        interrupted(tmp_path)
    checkpoint = entry_of(tmp_path).checkpoint(100)
    damage(checkpoint)
    assert train_tiny(tmp_path) == (100 if finished else 180)
    set_aside = checkpoint.with_name("step100.safetensors.damaged")
    assert set_aside.exists() == (damage is not os.unlink)
    assert files(tmp_path / "out") == whole


def test_a_stop_on_the_way_to_a_missing_checkpoint_costs_nothing_either(tmp_path, whole):
    train_tiny(tmp_path)
    entry = entry_of(tmp_path)
    os.unlink(entry.checkpoint(100))
    interrupted(tmp_path, at=70)
    assert train_tiny(tmp_path) == 40
    assert files(tmp_path / "out") == whole
    assert not (entry.folder / "again").exists()


def test_a_checkpoint_before_an_interrupted_second_pass_is_made_from_the_start(tmp_path):
    train_tiny(tmp_path)
    os.unlink(entry_of(tmp_path).checkpoint(100))
    interrupted(tmp_path, at=70)
    assert train_tiny(tmp_path, early=(0, 50, 100)) == 100
    assert set(files(tmp_path / "out")) >= {"step50.safetensors", "step100.safetensors"}


def test_a_folder_that_cannot_be_removed_is_a_warning(tmp_path, monkeypatch, caplog):
    train_tiny(tmp_path)
    entry = entry_of(tmp_path)
    os.unlink(entry.checkpoint(100))

    def busy(folder):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", busy)
        train_tiny(tmp_path)
    assert f"{entry.folder / 'again'}: could not be removed" in caplog.text


def test_publishing_again_leaves_nothing_beside_the_results(tmp_path, whole):
    train_tiny(tmp_path)
    train_tiny(tmp_path)
    assert files(tmp_path / "out") == whole


def test_full_disk_is_one_line_and_the_last_save_stays(tmp_path, monkeypatch):
    entry = interrupted(tmp_path)
    saved = entry.last.read_bytes()

    sync = os.fsync

    def no_space(descriptor):
        if "last.safetensors" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"last.safetensors: no space left") as error:
        patch.setattr(os, "fsync", no_space)
        train_tiny(tmp_path)
    the_one_line(error)
    assert saved in [path.read_bytes() for path in entry.folder.glob("*.safetensors")]
    assert not list(entry.folder.glob(".*tmp"))


def test_diverging_run_leaves_the_last_good_state(tmp_path):
    with pytest.raises(InputError, match="learning_rate"):
        train_tiny(tmp_path, learning_rate=1e30, warmup_steps=0)
    entry = entry_of(tmp_path, learning_rate=1e30, warmup_steps=0)
    assert entry.has_checkpoint(0) and entry.step == 0


def test_finished_run_is_not_published_once_another_configuration_was_started(tmp_path, monkeypatch, whole):
    save = Saves.save

    def another_is_started_then(saves, trainer):
        save(saves, trainer)
        if trainer.finished:
            (wanted,) = (tmp_path / ".store/.wanted").iterdir()
            wanted.write_text("another")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="a run of another configuration was started"):
        patch.setattr(Saves, "save", another_is_started_then)
        train_tiny(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".store"]
    assert train_tiny(tmp_path) == 0
    assert files(tmp_path / "out") == whole


def test_trainer_stops_at_its_next_save_when_its_state_was_deleted(tmp_path, whole):
    trainer = tiny_trainer(200)
    advance = trainer.advance

    def deleted_at_step_50():
        advance()
        if trainer.step == 50:
            shutil.rmtree(entry_of(tmp_path).folder)

    trainer.advance = deleted_at_step_50
    with pytest.raises(InputError, match="deleted while a trainer was at work on it: run the same command"):
        train(trainer, tmp_path / ".store", about(), 20, outputs(tmp_path / "out", 200))
    assert trainer.step == 60
    train_tiny(tmp_path)
    assert files(tmp_path / "out") == whole


def test_waiting_trainer_stops_when_the_state_is_deleted(tmp_path):
    folder = entry_of(tmp_path).folder
    folder.mkdir(parents=True)
    with open(folder / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        deletion = threading.Timer(0.3, shutil.rmtree, [folder])
        deletion.start()
        with pytest.raises(InputError, match="deleted while a trainer was at work on it"):
            train_tiny(tmp_path)
        deletion.join()


def test_no_owner_is_named_after_the_end(tmp_path):
    train_tiny(tmp_path)
    assert not Run(tmp_path / ".store", about()).owner.exists()


# Length, and what the store gives back


def test_a_longer_run_goes_on_from_the_end_of_a_shorter_one(tmp_path, whole):
    assert train_tiny(tmp_path, steps=140) == 140
    assert train_tiny(tmp_path, steps=200) == 60
    assert {name: content for name, content in files(tmp_path / "out").items() if name in whole} == whole


def test_a_shorter_run_is_read_off_a_longer_one(tmp_path, whole):
    train_tiny(tmp_path, steps=300, early=(0, 100, 200))
    shutil.rmtree(tmp_path / "out")
    assert train_tiny(tmp_path, steps=200) == 0
    assert files(tmp_path / "out") == whole


def test_another_checkpoint_in_the_past_is_trained_up_to_and_no_further(tmp_path, whole):
    train_tiny(tmp_path, early=(0,))
    assert train_tiny(tmp_path) == 100
    assert files(tmp_path / "out") == whole


def test_a_deleted_result_is_put_back_without_training(tmp_path, whole):
    train_tiny(tmp_path)
    shutil.rmtree(tmp_path / "out")
    assert train_tiny(tmp_path) == 0
    assert files(tmp_path / "out") == whole


def test_cost_is_asked_for_before_training_and_of_what_is_to_come_alone(tmp_path):
    asked = []

    def run(steps):
        said = about(), 20, outputs(tmp_path / "out", steps)
        train(tiny_trainer(steps), tmp_path / ".store", *said, before_training=asked.append)

    for steps in (200, 200, 220):
        run(steps)
    assert asked == [200, 20]


def test_results_are_links_to_the_store_that_cannot_be_written_by_mistake(tmp_path):
    train_tiny(tmp_path)
    checkpoint = entry_of(tmp_path).checkpoint(100)
    assert checkpoint.samefile(tmp_path / "out/step100.safetensors")
    assert checkpoint.stat().st_mode & 0o222 == 0


def test_results_are_copies_where_there_are_no_hard_links(tmp_path, whole, monkeypatch):
    def no_links(source, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    train_tiny(tmp_path)
    assert files(tmp_path / "out") == whole
    assert not entry_of(tmp_path).checkpoint(100).samefile(tmp_path / "out/step100.safetensors")


def test_a_published_checkpoint_is_a_model_and_says_what_it_is_of(tmp_path):
    train_tiny(tmp_path)
    path = tmp_path / "out/step200.safetensors"
    trainer = tiny_trainer(200)
    while not trainer.finished:
        trainer.advance()
    expected = trainer.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in load_model(path).state_dict().items())
    assert read_record(path) == json.loads(json.dumps({**about(), "step": 200}))


@contextmanager
def unopenable(monkeypatch, name, code):
    """Files called `name` cannot be opened, whoever asks: permissions alone would not keep root out."""
    whole_open = builtins.open

    def refuse(path, *arguments, **options):
        if isinstance(path, str | Path) and Path(path).name == name:
            raise OSError(code, os.strerror(code), str(path))
        return whole_open(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", refuse)
        patch.setattr("io.open", refuse)
        yield


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *(("last.safetensors", code) for code in (errno.EACCES, errno.EMFILE, errno.EIO, errno.ESTALE)),
        *((name, errno.EACCES) for name in ("step100.safetensors", "run.json", "SHA256SUMS")),
    ],
)
def test_a_file_that_cannot_be_opened_is_one_line_and_everything_stays(tmp_path, monkeypatch, name, code):
    interrupted(tmp_path)
    before = stored(tmp_path)
    with unopenable(monkeypatch, name, code), pytest.raises(InputError) as error:
        train_tiny(tmp_path)
    assert f"/{name}: cannot be opened ({os.strerror(code)}): nothing was changed" in the_one_line(error)
    assert stored(tmp_path) == before


def test_an_older_save_is_not_used_in_place_of_one_that_cannot_be_opened(tmp_path, monkeypatch):
    entry = interrupted(tmp_path)
    before = stored(tmp_path)
    saves = Saves(entry.folder, about())
    with unopenable(monkeypatch, "last.safetensors", errno.EIO), pytest.raises(InputError, match="cannot be opened"):
        saves.read()
    assert stored(tmp_path) == before


# Circumstances


def test_a_finished_run_is_good_under_other_circumstances(tmp_path, whole):
    train_tiny(tmp_path)
    shutil.rmtree(tmp_path / "out")
    assert train_tiny(tmp_path, threads=2) == 0
    assert files(tmp_path / "out") == whole


def test_half_done_work_is_not_gone_on_with_under_other_circumstances_and_is_named(tmp_path, caplog):
    entry = interrupted(tmp_path)
    assert train_tiny(tmp_path, threads=2) == 200
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith(f"{entry.folder}: progress to step 120 is left there") and "(threads: 1 -> 2)" in line
    assert entry.step == 120


# Code


def accepted(folder):
    """What each file of a run, and its entry in the store, says of how it was accepted: all say the same."""
    entry = entry_of(folder)
    paths = [*(folder / "out").glob("step*"), folder / "out/training.csv", entry.last]
    (said,) = {json.dumps(read_record(path).get("accepted")) for path in paths} | {
        json.dumps(entry.about.get("accepted"))
    }
    return json.loads(said)


def test_a_run_by_other_code_that_gives_the_same_first_rows_is_accepted(tmp_path):
    train_tiny(tmp_path, steps=300, code="older")
    old = (tmp_path / "out/training.csv").read_bytes()
    assert train_tiny(tmp_path, steps=300, accept_code="proved") == 200
    assert (tmp_path / "out/training.csv").read_bytes() == old
    assert accepted(tmp_path)["proof"] == "the first 200 steps give the same rows bit for bit"


def test_a_run_by_other_code_that_gives_other_numbers_is_not_accepted_as_proved(tmp_path):
    train_tiny(tmp_path, code="older", wrong={"adam_beta2": 0.99})
    before = files(tmp_path / "out")
    with pytest.raises(InputError, match="the code gives other numbers now, from the row of step 5 on") as error:
        train_tiny(tmp_path, accept_code="proved")
    assert "accept_code=unproven" in the_one_line(error)
    assert files(tmp_path / "out") == before


def test_a_run_cannot_be_proved_under_other_circumstances(tmp_path):
    train_tiny(tmp_path, code="older")
    with pytest.raises(InputError, match=r"under other circumstances \(threads: 1 -> 2\)") as error:
        train_tiny(tmp_path, accept_code="proved", threads=2)
    the_one_line(error)


def test_a_run_accepted_unproven_says_so_in_every_file_for_good(tmp_path):
    train_tiny(tmp_path, code="older", wrong={"adam_beta2": 0.99})
    old = (tmp_path / "out/training.csv").read_bytes()
    assert train_tiny(tmp_path, accept_code="unproven") == 0
    assert (tmp_path / "out/training.csv").read_bytes() == old
    assert accepted(tmp_path)["proof"] == "unproven"
    assert train_tiny(tmp_path, steps=220) == 20
    assert accepted(tmp_path)["proof"] == "unproven"


def test_a_run_by_other_code_is_trained_anew_when_nothing_is_accepted(tmp_path):
    train_tiny(tmp_path, code="older")
    assert train_tiny(tmp_path) == 200
    assert accepted(tmp_path) is None


def test_a_run_of_another_configuration_is_never_accepted(tmp_path):
    train_tiny(tmp_path, batch_size=4)
    assert train_tiny(tmp_path, accept_code="unproven") == 200
