"""The store: what it has, what of it is good, and what nobody needs."""

import os

import pytest
import torch

from abrupt.errors import InputError
from abrupt.storage.checkpoints import write_tensors
from abrupt.storage.identity import digest
from abrupt.storage.records import about_result, circumstances, code_identity, write_records
from abrupt.storage.store import Entry, entries, entries_of, remove, set_aside, unused


def identity(seed=0):
    return {"kind": "pretraining", "seed": seed, "code": code_identity("scripts/head_scores.py")}


def filled(store, seed=0, circumstance="aaaaaa", step=20, checkpoints=(0, 10, 20)):
    """An entry with a state and checkpoints."""
    entry = Entry(store / f"{digest(identity(seed))}-{circumstance}")
    about = about_result(identity(seed), circumstances("cpu", 1))
    for checkpoint in checkpoints:
        write_tensors(entry.checkpoint(checkpoint), {"a": torch.zeros(100)}, {**about, "step": checkpoint})
        entry.add_sum(entry.checkpoint(checkpoint))
    write_tensors(entry.last, {"a": torch.zeros(300)}, {**about, "step": step})
    return entry


@pytest.fixture
def store(tmp_path):
    return tmp_path / "results/.store"


def test_entries_are_found_by_identity_whatever_their_circumstances(store):
    one, other = filled(store), filled(store, circumstance="bbbbbb")
    foreign = filled(store, seed=1)
    (store / ".wanted").mkdir()
    assert entries_of(store, identity()) == [one, other]
    assert {entry.folder for entry in entries(store)} == {one.folder, other.folder, foreign.folder}


def test_there_is_nothing_in_a_store_that_is_not_there(store):
    assert entries(store) == [] and entries_of(store, identity()) == [] and unused(store) == []


@pytest.mark.parametrize(
    ("steps", "checkpoint_steps", "covered"),
    [(20, {0, 10, 20}, True), (10, {0, 10}, True), (20, {0, 5, 20}, False), (30, {0, 30}, False)],
    ids=["all of it", "a shorter run", "a checkpoint that is not kept", "a longer run"],
)
def test_a_run_covers_what_lies_within_it(store, steps, checkpoint_steps, covered):
    assert filled(store).covers(steps, checkpoint_steps) == covered


def test_an_entry_without_a_state_is_at_step_0(store):
    entry = filled(store)
    entry.last.unlink()
    assert entry.step == 0 and not entry.covers(10, {0})


def test_a_truncated_state_counts_for_nothing(store):
    entry = filled(store)
    os.truncate(entry.last, entry.last.stat().st_size - 1)
    assert entry.step == 0


def test_a_state_of_another_run_is_one_line(store):
    entry, other = filled(store), filled(store, seed=1)
    os.replace(other.last, entry.last)
    with pytest.raises(InputError, match=r"last\.safetensors: is of another run") as error:
        _ = entry.step
    assert "\n" not in str(error.value)


def test_a_checkpoint_whose_content_changed_is_set_aside(store):
    entry = filled(store)
    content = entry.checkpoint(10).read_bytes()
    entry.checkpoint(10).write_bytes(content[:-1] + b"\1")
    assert not entry.has_checkpoint(10)
    assert [path.name for path in entry.folder.glob("step10*")] == ["step10.safetensors.damaged"]


def test_nothing_that_was_set_aside_is_overwritten(tmp_path):
    path = tmp_path / "a"
    for content in ("first", "second", "third"):
        path.write_text(content)
        set_aside(path)
    found = sorted(path.read_text() for path in tmp_path.glob("a.damaged*"))
    assert found == ["first", "second", "third"]


@pytest.mark.parametrize("content", [None, "", "[]", "{}"])
def test_an_entry_whose_description_is_missing_or_foreign_says_nothing(store, content):
    entry = filled(store)
    if content is not None:
        (entry.folder / "run.json").write_text(content)
    assert entry.about is None


def test_size_is_what_removing_would_free(store):
    entry = filled(store, checkpoints=())
    write_tensors(entry.checkpoint(10), {"a": torch.zeros(10_000)}, {})
    os.link(entry.checkpoint(10), store / "link")
    assert entry.size == entry.last.stat().st_size


def test_unused_is_what_no_results_under_any_name_show(store):
    used, renamed, not_shown = filled(store), filled(store, seed=1), filled(store, seed=2)
    for seed, folder in ((0, "smoke/pretrain/seed0"), (1, "lr5e-4/runs/mixture/seed1")):
        curve = store.parent / folder / "training.csv"
        curve.parent.mkdir(parents=True)
        curve.write_text("step\n")
        write_records([curve], about_result(identity(seed), circumstances("cpu", 1), steps=20))
    assert unused(store) == [not_shown]
    remove(not_shown)
    assert unused(store) == [] and entries(store) == sorted([used, renamed], key=lambda entry: entry.folder)
