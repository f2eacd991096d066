import errno
import fcntl
import hashlib
import json
import math
import os

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from abrupt.errors import DamagedFileError, InputError, UnreadableFileError
from abrupt.storage.attention_files import read_attention, write_attention
from abrupt.storage.checkpoints import load_model, read_tensors, write_tensors
from abrupt.storage.files import sha256, write_atomically, write_csv
from abrupt.storage.identity import configuration, curve_digest, differing_keys, digest, weights_digest


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "table.csv"


def test_write_makes_the_folder_and_leaves_the_file_alone_in_it(path):
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_write_replaces_what_was_there(path):
    write_atomically(path, b"old and longer")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_content_is_on_disk_before_the_rename_and_the_rename_after_it(path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), path.exists()))
    )
    write_atomically(path, b"new")
    (temporary, before), (folder, after) = synced
    assert temporary.endswith(".tmp") and not before
    assert folder == str(path.parent) and after


def failing_fsync(code):
    def fsync(descriptor):
        raise OSError(code, os.strerror(code))

    return fsync


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_an_error_of_one_line_and_the_old_file_stays(path, monkeypatch, code):
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", failing_fsync(code))
    with pytest.raises(InputError) as raised:
        write_atomically(path, b"new")
    assert str(path) in str(raised.value) and "no space left" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_other_failure_of_the_disk_is_passed_on_and_the_old_file_stays(path, monkeypatch):
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", failing_fsync(errno.EIO))
    with pytest.raises(OSError) as raised:
        write_atomically(path, b"new")
    assert raised.value.errno == errno.EIO
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_interrupt_while_writing_leaves_the_old_file_and_no_other(path, monkeypatch):
    write_atomically(path, b"old")

    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_csv_has_eight_digits_and_an_empty_cell_for_nan(path):
    write_csv(path, pd.DataFrame({"step": [1, 2], "mse": [1 / 3, math.nan], "name": ["a", "b"]}, index=[5, 6]))
    assert path.read_bytes() == b"step,mse,name\n1,0.33333333,a\n2,,b\n"


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}), ({"a": [1, 2.0]}, {"a": (1.0, 2)})],
    ids=["order", "whole numbers"],
)
def test_digest_is_the_same_for_equal_values(one, other):
    assert digest(one) == digest(other)


@pytest.mark.parametrize("other", [{"a": 2}, {"b": 1}, {"a": "1"}, {"a": [1]}, {"a": 1.5}, {"a": 1, "b": 1}, {}])
def test_digest_tells_values_apart(other):
    assert digest(other) != digest({"a": 1})


def test_digest_is_sixteen_digits_and_stays_the_same_between_versions():
    assert digest({"b": 1.0, "a": [1, 2]}) == hashlib.sha256(b'{"a":[1,2],"b":1}').hexdigest()[:16]


def test_digests_of_weights_and_curves_tell_steps_and_runs_apart():
    digests = [kind(run, step) for kind in (weights_digest, curve_digest) for run in ({}, {"a": 1}) for step in (1, 2)]
    assert len(set(digests)) == 8


def test_configuration_is_an_identity_without_its_code_and_that_of_the_run_it_starts_from():
    identity = {
        "seed": 0,
        "code": {"digest": "a"},
        "inputs": {"weights": ["b"]},
        "pretraining": {"seed": 1, "code": {}},
    }
    assert configuration(identity) == {"seed": 0, "pretraining": {"seed": 1}}


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_differing_keys_are_named_with_both_values():
    stored = {"task": {"rows": 7, "rank": 1}, "seed": 0, "old": 5}
    wanted = {"task": {"rows": 7, "rank": 2}, "seed": 1, "new": [1]}
    assert differing_keys(stored, wanted) == [
        "new: None -> [1]",
        "old: 5 -> None",
        "seed: 0 -> 1",
        "task.rank: 1 -> 2",
    ]


def test_equal_dicts_have_no_differing_keys():
    assert differing_keys({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2]}}) == []


def test_dict_in_place_of_a_value_differs():
    assert differing_keys({"a": 1}, {"a": {"b": 1}}) == ["a: 1 -> {'b': 1}"]


TASK = {
    "rows": 3,
    "columns": 4,
    "rank": 1,
    "mask_probability": 0.3,
    "decimals": 1,
    "max_value": 1,
    "factor_law": "uniform",
    "factor_scale": 1,
}
MODEL = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "max_position_embeddings": 12,
    "embedding_init_std": 0.02,
    "weight_init_std": 0.02,
}
ABOUT = {"identity": {"kind": "pretraining", "task": TASK, "model": MODEL, "seed": 0}, "step": 10}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "step10.safetensors"
    write_tensors(path, {"a": torch.arange(2000.0), "b": torch.tensor(True)}, ABOUT)
    return path


def the_one_line(path, error=DamagedFileError, read=read_tensors):
    with pytest.raises(error) as raised:
        read(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    return str(raised.value)


def test_tensors_survive_the_file(weights):
    read = read_tensors(weights)
    assert torch.equal(read["a"], torch.arange(2000.0)) and torch.equal(read["b"], torch.tensor(True))
    assert read.keys() == {"a", "b"}


def test_transposed_tensor_survives_the_file(tmp_path):
    value = torch.arange(6.0).reshape(2, 3).T
    write_tensors(tmp_path / "t", {"a": value}, ABOUT)
    assert torch.equal(read_tensors(tmp_path / "t")["a"], value)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_safetensors_file_is_damaged(weights, kept):
    weights.write_bytes(weights.read_bytes()[:kept])
    assert "delete it" in the_one_line(weights)


def test_text_file_is_damaged(weights):
    weights.write_text("no weights here\n" * 50)
    assert "delete it" in the_one_line(weights)


def test_missing_file_is_one_line(weights):
    weights.unlink()
    assert "is missing" in the_one_line(weights)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.EIO, errno.ESTALE])
def test_file_that_cannot_be_opened_is_not_called_damaged(weights, monkeypatch, code):
    def refuse(path, *arguments, **options):
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("io.open", refuse)
        line = the_one_line(weights, UnreadableFileError)
    assert f"cannot be opened ({os.strerror(code)}): nothing was changed" in line


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"run": "sunny-night-17"}])
def test_foreign_safetensors_file_is_not_loaded_as_a_model(weights, metadata):
    safetensors.torch.save_file({"a": torch.zeros(3)}, weights, metadata)
    assert "not written by this workflow" in the_one_line(weights, read=load_model)


def test_what_is_said_of_tensors_is_json_under_one_key(weights):
    with safetensors.safe_open(weights, framework="pt") as stream:
        metadata = stream.metadata()
    assert json.loads(metadata.pop("abrupt")) == ABOUT
    assert metadata == {}


def test_tensors_that_do_not_fit_the_model_are_damaged(weights):
    assert "do not fit the model" in the_one_line(weights, read=load_model)


def test_maps_that_another_program_is_writing_are_not_called_damaged(tmp_path):
    path = tmp_path / "step0.h5"
    write_attention(path, {"random": {"a": np.zeros(3)}}, {"a": ("x",)}, {"step": 0}, {})
    with open(path, "rb") as notebook:
        fcntl.flock(notebook, fcntl.LOCK_EX)  # as HDF5 does for a file that is open for writing
        line = the_one_line(path, UnreadableFileError, lambda path: read_attention(path, ("a",)))
    assert "close it there and run again" in line
    assert read_attention(path, ("a",))[1]["random"]["a"].tolist() == [0, 0, 0]
