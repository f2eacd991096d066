import errno
import hashlib
import json
import math
import os

import pandas as pd
import pytest
import safetensors.torch
import torch

from abrupt.errors import DamagedFileError, InputError
from abrupt.storage.checkpoints import load_model, read_tensors, write_tensors
from abrupt.storage.files import fingerprint, sha256, write_atomically, write_csv
from abrupt.storage.identity import check_same_run, differing_keys, pretraining_run


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


def test_fingerprint_does_not_depend_on_the_order_of_keys():
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})


@pytest.mark.parametrize("other", [{"a": 2}, {"b": 1}, {"a": "1"}, {"a": [1]}, {"a": 1, "b": 1}, {}])
def test_fingerprint_tells_values_apart(other):
    assert fingerprint(other) != fingerprint({"a": 1})


def test_fingerprint_is_twelve_digits_and_stays_the_same_between_versions():
    assert fingerprint({"b": 1, "a": [1, 2]}) == hashlib.sha256(b'{"a":[1,2],"b":1}').hexdigest()[:12]


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


def test_file_of_another_run_is_an_error_of_one_line():
    with pytest.raises(InputError, match=r"^run\.json: .*\(seed: 0 -> 1; task\.rank: 1 -> 2\)") as raised:
        check_same_run("run.json", {"seed": 0, "task": {"rank": 1}}, {"seed": 1, "task": {"rank": 2}})
    assert "\n" not in str(raised.value)


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
RUN = pretraining_run(TASK, MODEL, {"steps": 10}, seed=0)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "step10.safetensors"
    write_tensors(path, {"a": torch.arange(2000.0), "b": torch.tensor(True)}, RUN)
    return path


def the_one_line(path, run=RUN, error=DamagedFileError):
    with pytest.raises(error) as raised:
        read_tensors(path, run)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    return str(raised.value)


def test_tensors_survive_the_file(weights):
    read = read_tensors(weights, RUN)
    assert torch.equal(read["a"], torch.arange(2000.0)) and torch.equal(read["b"], torch.tensor(True))
    assert read.keys() == {"a", "b"}


def test_transposed_tensor_survives_the_file(tmp_path):
    value = torch.arange(6.0).reshape(2, 3).T
    write_tensors(tmp_path / "t", {"a": value}, RUN)
    assert torch.equal(read_tensors(tmp_path / "t", RUN)["a"], value)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_safetensors_file_is_damaged(weights, kept):
    weights.write_bytes(weights.read_bytes()[:kept])
    assert "delete it" in the_one_line(weights)


def test_text_file_is_damaged(weights):
    weights.write_text("no weights here\n" * 50)
    assert "delete it" in the_one_line(weights)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"run": "sunny-night-17"}])
def test_foreign_safetensors_file_is_not_read(weights, metadata):
    safetensors.torch.save_file({"a": torch.zeros(3)}, weights, metadata)
    assert "not written by this workflow" in the_one_line(weights)


def test_tensors_of_another_run_are_an_error_that_names_the_keys(weights):
    other = pretraining_run({**TASK, "rank": 2}, MODEL, {"steps": 20}, seed=0)
    line = the_one_line(weights, other, InputError)
    assert "pretrain.steps: 10 -> 20; task.rank: 1 -> 2" in line and "seed" not in line


def test_run_and_extra_metadata_are_json_under_one_key(tmp_path):
    write_tensors(tmp_path / "t", {"a": torch.zeros(1)}, RUN, step=5)
    with safetensors.safe_open(tmp_path / "t", framework="pt") as stream:
        metadata = stream.metadata()
    assert json.loads(metadata.pop("abrupt")) == {"run": RUN, "step": 5}
    assert metadata == {}


def test_tensors_that_do_not_fit_the_model_are_damaged(weights):
    with pytest.raises(DamagedFileError) as raised:
        load_model(weights, RUN)
    assert str(weights) in str(raised.value) and "\n" not in str(raised.value)
