"""What a result says of itself, and what is done with one that does not say what it should."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from abrupt.errors import DamagedFileError, InputError, UnreadableFileError
from abrupt.storage import records
from abrupt.storage.checkpoints import write_tensors
from abrupt.storage.identity import canonical_json, curve_digest, digest, weights_digest
from abrupt.storage.records import (
    about_result,
    check_input,
    circumstances,
    code_identity,
    explained_difference,
    is_damaged,
    read_record,
    record_digest,
    start,
    write_records,
)

CODE = code_identity("scripts/head_scores.py")
IDENTITY = {"kind": "derived", "task": {"rows": 3, "rank": 1}, "seed": 0, "code": CODE}


@pytest.fixture
def about():
    return about_result(IDENTITY, circumstances("cpu", 1))


@pytest.fixture
def table(tmp_path, about):
    path = tmp_path / "seed0.csv"
    path.write_text("step,mse\n1,0.5\n")
    write_records([path], about)
    return path


@pytest.fixture
def weights(tmp_path, about):
    path = tmp_path / "step5.safetensors"
    write_tensors(path, {"a": torch.arange(100.0)}, {**about, "step": 5})
    return path


def test_record_says_what_was_made_under_what_by_which_code(table):
    record = read_record(table)
    assert record["identity"] == IDENTITY
    assert record["circumstances"]["threads"] == 1 and record["circumstances"]["versions"]["torch"]
    assert "scripts/head_scores.py: statements" in record["definitions"]


def test_files_of_one_stem_share_a_record(tmp_path, about):
    paths = [tmp_path / f"fig.{suffix}" for suffix in ("pdf", "png", "csv")]
    for path in paths:
        path.write_text(path.suffix)
    write_records(paths, about)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["fig.json"]
    for path in paths:
        check_input(path, digest(IDENTITY))


def test_weights_say_it_themselves_to_a_reader_without_pytorch(weights, about):
    assert read_record(weights) == {**json.loads(canonical_json(about)), "step": 5}


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{", '{"identity": 3}', '{"identity": {}}'], ids=lambda content: str(content)
)
def test_file_whose_record_is_missing_or_foreign_says_nothing(table, content):
    record = table.with_suffix(".json")
    record.unlink()
    if content is not None:
        record.write_text(content)
    assert read_record(table) is None


def test_file_that_is_missing_says_nothing_though_its_record_is_there(table):
    table.unlink()
    assert read_record(table) is None


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights_say_nothing(weights, kept):
    assert not is_damaged(weights)
    weights.write_bytes(weights.read_bytes()[:kept])
    assert read_record(weights) is None and is_damaged(weights)


def test_weights_of_another_program_are_whole_and_say_nothing(weights):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    weights.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert read_record(weights) is None and not is_damaged(weights)


@pytest.mark.parametrize("code", [errno.EACCES, errno.ESTALE])
def test_record_that_cannot_be_opened_is_one_line(table, monkeypatch, code):
    def refuse(path, **options):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UnreadableFileError, match=rf"seed0\.csv: cannot be opened \({os.strerror(code)}\)") as error:
        read_record(table)
    assert "\n" not in str(error.value)


def test_each_kind_of_result_has_its_digest():
    assert record_digest({"identity": IDENTITY}) == digest(IDENTITY)
    assert record_digest({"identity": IDENTITY, "step": 5}) == weights_digest(IDENTITY, 5)
    assert record_digest({"identity": IDENTITY, "steps": 5}) == curve_digest(IDENTITY, 5)
    assert (
        len({digest(IDENTITY), weights_digest(IDENTITY, 5), weights_digest(IDENTITY, 6), curve_digest(IDENTITY, 5)})
        == 4
    )


def the_one_line(kind, path, wanted):
    with pytest.raises(kind) as error:
        check_input(path, wanted)
    assert type(error.value) is kind
    assert str(path) in str(error.value) and "\n" not in str(error.value) and "delete it" in str(error.value)
    return str(error.value)


def test_input_that_is_what_it_must_be_is_accepted(table, weights):
    check_input(table, digest(IDENTITY))
    check_input(weights, weights_digest(IDENTITY, 5))


def test_input_of_another_configuration_is_refused(table, weights):
    assert "another configuration" in the_one_line(InputError, table, digest({**IDENTITY, "seed": 1}))
    assert "another configuration" in the_one_line(InputError, weights, weights_digest(IDENTITY, 6))


def test_table_that_was_changed_or_copied_over_is_refused(table):
    table.write_text("step,mse\n1,0.4\n")
    assert "seed0.json" in the_one_line(DamagedFileError, table, digest(IDENTITY))


def test_input_that_says_nothing_is_refused(table):
    table.with_suffix(".json").unlink()
    assert "not made by this workflow" in the_one_line(DamagedFileError, table, digest(IDENTITY))


def test_truncated_weights_are_refused_as_such(weights):
    os.truncate(weights, 1000)
    assert "not a complete" in the_one_line(DamagedFileError, weights, weights_digest(IDENTITY, 5))


def test_job_starts_with_the_identity_that_it_was_scheduled_with(table):
    identity = {**IDENTITY, "inputs": {"table": [digest(IDENTITY)]}}
    assert start(canonical_json(identity), {"table": str(table)}) == identity


def test_job_with_several_identities_checks_the_inputs_of_each(table):
    identities = {"a": IDENTITY, "b": {**IDENTITY, "inputs": {"tables": ["0" * 16]}}}
    with pytest.raises(InputError, match="another configuration"):
        start(canonical_json(identities), {"tables": [str(table)]})


def test_job_whose_code_was_edited_since_stops():
    edited = {**IDENTITY, "code": {**CODE, "digest": "0" * 16}}
    with pytest.raises(InputError, match="the code was edited after Snakemake had been started") as error:
        start(canonical_json(edited), {})
    assert "\n" not in str(error.value)


def test_difference_of_the_configuration_is_named_with_both_values(about):
    wanted = {**IDENTITY, "task": {"rows": 3, "rank": 2}, "seed": 1}
    assert explained_difference(about, wanted) == ["seed: 0 -> 1", "task.rank: 1 -> 2"]


def test_difference_of_the_code_is_named_by_what_is_new_gone_or_changed(about, monkeypatch):
    def definitions(*entries):
        old = about["definitions"]
        changed = {name: "0" for name in list(old)[:1]}
        return {name: old[name] for name in list(old)[2:]} | changed | {"new.one": "1"}

    names = list(about["definitions"])[:2]
    monkeypatch.setattr(records, "definitions_behind", definitions)
    wanted = {**IDENTITY, "code": {**CODE, "digest": "0" * 16}}
    assert explained_difference(about, wanted) == [f"code of {', '.join(sorted([*names, 'new.one']))}"]
