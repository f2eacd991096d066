import json
import subprocess
import sys
import weakref
from itertools import product

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from abrupt.analyses import attention
from abrupt.analyses.attention import DIMENSIONS, KEY_GROUPS, QUERY_GROUPS, extract, key_groups, mask_patterns
from abrupt.errors import DamagedFileError, UnreadableFileError
from abrupt.models.bert import Bert, BertConfig, initialise
from abrupt.sampling import Batch, sample_batch, tokenise
from abrupt.scores.heads import tidy_shares
from abrupt.storage.attention_files import read_attention, write_attention
from abrupt.task import Task

TASK = Task(
    rows=3, columns=4, rank=1, mask_probability=0.4, decimals=2, max_value=1, factor_law="uniform", factor_scale=1
)
LENGTH = 12
SEVEN = Task(
    rows=7, columns=7, rank=2, mask_probability=0.3, decimals=2, max_value=10, factor_law="uniform", factor_scale=1
)


def in_group(group: str, query: int, key: int, observed: np.ndarray) -> bool:
    """Whether `key` belongs to `group` for `query`, on a matrix of four columns."""
    if group == "same_row":
        return query // 4 == key // 4 and query != key
    if group == "same_column":
        return query % 4 == key % 4 and query != key
    if group == "self":
        return query == key
    return observed[key] == (group == "observed")


class Planted(nn.Module):
    """Attends as told to: `weights` (layers, heads, T, T), the same for every sample; predicts 0."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward_with_attention(self, tokens):
        return torch.zeros(tokens.shape), self.weights.expand(len(tokens), *self.weights.shape)


@pytest.fixture
def batch():
    return sample_batch(TASK, 7, 0, "attention")


@pytest.fixture
def bert():
    model = Bert(BertConfig(TASK.vocab_size, 12, 2, 3, 20, 16))
    # Large weights: attention far from uniform.
    initialise(model, [name for name, _ in model.named_parameters()], torch.Generator().manual_seed(0), 1.0, 0.6)
    return model


@pytest.mark.parametrize("group", KEY_GROUPS)
def test_key_groups_by_brute_force(batch, group):
    observed = batch.observed.flatten(1)
    found = key_groups(TASK, observed)[KEY_GROUPS.index(group)].numpy()
    for sample, query, key in np.ndindex(7, LENGTH, LENGTH):
        assert found[sample, query, key] == in_group(group, query, key, observed[sample].numpy())


def test_query_groups_are_all_observed_and_masked(batch):
    observed = batch.observed.flatten(1)
    groups = attention.query_groups(observed)
    for sample, query in np.ndindex(7, LENGTH):
        is_observed = bool(observed[sample, query])
        assert groups[:, sample, query].tolist() == [True, is_observed, not is_observed]


def direct_shares(weights: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """(layer, head, query group, key group) by loops, weights (B, layers, heads, T, T)."""
    samples, layers, heads = weights.shape[:3]
    shares = np.zeros((layers, heads, len(QUERY_GROUPS), len(KEY_GROUPS)))
    for (i, query_group), (j, key_group) in product(enumerate(QUERY_GROUPS), enumerate(KEY_GROUPS)):
        count = 0
        for sample, query in np.ndindex(samples, LENGTH):
            if query_group != "all" and observed[sample, query] != (query_group == "observed"):
                continue
            keys = [key for key in range(LENGTH) if in_group(key_group, query, key, observed[sample])]
            shares[:, :, i, j] += weights[sample, :, :, query, keys].sum(0) if keys else 0
            count += 1
        shares[:, :, i, j] /= count
    return shares


def test_extraction_is_that_of_the_whole_batch(batch, bert):
    found = extract(bert, TASK, batch, num_samples=2)
    with torch.no_grad():
        prediction, weights = bert.forward_with_attention(batch.tokens)
    weights, observed = weights.double().numpy(), batch.observed.flatten(1).numpy()
    np.testing.assert_allclose(found.attention_mean, weights.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.head_share, direct_shares(weights, observed), atol=1e-6)
    uniform = direct_shares(np.full((7, 1, 1, LENGTH, LENGTH), 1 / LENGTH), observed)[0, 0]
    np.testing.assert_allclose(found.uniform_share, uniform, atol=1e-6)
    np.testing.assert_allclose(found.sample_attention, weights[:2], atol=1e-6)
    np.testing.assert_allclose(found.sample_prediction, prediction[:2].reshape(2, 3, 4), atol=1e-6)
    np.testing.assert_array_equal(found.sample_matrix, batch.target[:2])
    np.testing.assert_array_equal(found.sample_observed, batch.observed[:2])
    np.testing.assert_array_equal(found.sample_tokens, batch.tokens[:2])


@pytest.mark.parametrize("chunk_size", [2, 3, 7, 100])
def test_chunk_size_does_not_change_the_extraction(batch, bert, monkeypatch, chunk_size):
    whole = extract(bert, TASK, batch, num_samples=2)
    monkeypatch.setattr(attention, "CHUNK_SIZE", chunk_size)
    for name, array in extract(bert, TASK, batch, num_samples=2)._asdict().items():
        np.testing.assert_allclose(array, getattr(whole, name), atol=1e-6, err_msg=name)


def test_more_single_samples_than_a_chunk_are_all_kept(batch, bert, monkeypatch):
    monkeypatch.setattr(attention, "CHUNK_SIZE", 2)
    found = extract(bert, TASK, batch, num_samples=5)
    assert {name: len(array) for name, array in found._asdict().items() if name.startswith("sample_")} == {
        "sample_matrix": 5,
        "sample_observed": 5,
        "sample_tokens": 5,
        "sample_prediction": 5,
        "sample_attention": 5,
    }


def test_weights_are_let_go_chunk_by_chunk(batch, bert, monkeypatch):
    monkeypatch.setattr(attention, "CHUNK_SIZE", 1)
    kept, most = [], 0

    class Watched:
        def forward_with_attention(self, tokens):
            nonlocal most
            most = max(most, sum(reference() is not None for reference in kept))
            prediction, weights = bert.forward_with_attention(tokens)
            array = weights.numpy().copy()
            kept.append(weakref.ref(array))
            return prediction, torch.from_numpy(array)

    extract(Watched(), TASK, batch, num_samples=2)
    assert len(kept) == 7 and most == 1


def test_uniform_attention_has_the_uniform_share_of_every_group(batch):
    found = extract(Planted(torch.full((2, 3, LENGTH, LENGTH), 1 / LENGTH)), TASK, batch, 1)
    np.testing.assert_allclose(found.head_share, np.broadcast_to(found.uniform_share, found.head_share.shape))
    all_queries = dict(zip(KEY_GROUPS, found.uniform_share[0], strict=True))
    assert all_queries["same_row"] == pytest.approx(3 / 12)
    assert all_queries["same_column"] == pytest.approx(2 / 12)
    assert all_queries["self"] == pytest.approx(1 / 12)
    assert all_queries["observed"] == pytest.approx(batch.observed.double().mean().item())
    assert all_queries["masked"] == pytest.approx(1 - batch.observed.double().mean().item())


@pytest.mark.parametrize("group", ["same_row", "same_column", "self"])
def test_attention_planted_on_a_group_has_share_one_there(batch, group):
    nothing = np.zeros(LENGTH, bool)
    planted = np.array([[in_group(group, q, k, nothing) for k in range(LENGTH)] for q in range(LENGTH)], np.float32)
    weights = torch.from_numpy(planted / planted.sum(1, keepdims=True))[None, None]
    shares = extract(Planted(weights), TASK, batch, 1).head_share[0, 0]
    by_position = dict(zip(KEY_GROUPS[:3], shares[:, :3].T, strict=True))
    assert list(by_position) == ["same_row", "same_column", "self"]
    for other, share in by_position.items():
        np.testing.assert_allclose(share, float(other == group), atol=1e-6)


def test_mask_patterns_share_the_matrices():
    patterns = mask_patterns(SEVEN, 5, 0)
    assert list(patterns) == ["random", "masked_rows", "masked_columns"]
    assert all(torch.equal(pattern.target, patterns["random"].target) for pattern in patterns.values())


def test_row_pattern_at_seven_is_that_of_the_paper():
    expected = torch.ones(7, 7, dtype=torch.bool)
    expected[[3, 6]] = False
    expected[3, 1] = expected[6, 5] = True
    observed = mask_patterns(SEVEN, 5, 0)["masked_rows"].observed
    assert torch.equal(observed, expected.expand(5, 7, 7))


def test_column_pattern_is_the_transpose_of_the_row_pattern_on_a_square_matrix():
    patterns = mask_patterns(SEVEN, 2, 0)
    assert torch.equal(patterns["masked_columns"].observed, patterns["masked_rows"].observed.mT)


@pytest.mark.parametrize("pattern", ["masked_rows", "masked_columns"])
@pytest.mark.parametrize("size", [(3, 3), (3, 4), (5, 3), (5, 8)])
def test_structured_patterns_leave_one_entry_in_each_of_two_rows_or_columns(pattern, size):
    observed = mask_patterns(Task(*size, 1, 0.3, 2, 1, "uniform", 1), 1, 0)[pattern].observed[0]
    lines = observed if pattern == "masked_rows" else observed.mT
    counts = lines.sum(1).tolist()
    assert sorted(counts) == [1, 1] + [lines.shape[1]] * (len(counts) - 2)


def test_tokens_of_a_structured_pattern_follow_its_mask():
    pattern = mask_patterns(SEVEN, 3, 0)["masked_columns"]
    assert torch.equal(pattern.tokens == 0, ~pattern.observed.flatten(1))
    assert torch.equal(pattern.tokens, tokenise(SEVEN, pattern.target, pattern.observed))


def test_a_batch_with_nothing_masked_has_no_share_for_masked_queries(bert):
    target = sample_batch(TASK, 2, 0, "attention").target
    observed = torch.ones_like(target, dtype=torch.bool)
    found = extract(bert, TASK, Batch(tokenise(TASK, target, observed), target, observed), 1)
    assert np.isnan(found.head_share[:, :, QUERY_GROUPS.index("masked")]).all()
    assert np.isfinite(found.head_share[:, :, QUERY_GROUPS.index("all")]).all()


RUN = {"task": {"rows": 3, "rank": 1}, "seed": 4}
ATTRIBUTES = {"seed": 4, "step": 500, "query_groups": QUERY_GROUPS, "key_groups": KEY_GROUPS}


@pytest.fixture
def written(tmp_path, batch, bert):
    """A file with two mask patterns, and the arrays in it."""
    arrays = extract(bert, TASK, batch, 2)._asdict()
    patterns = {"random": arrays, "masked_rows": {name: array[::-1] for name, array in arrays.items()}}
    path = tmp_path / "step500.h5"
    write_attention(path, patterns, DIMENSIONS, ATTRIBUTES, RUN)
    return path, patterns


def test_values_survive_the_file(written):
    path, patterns = written
    _, read = read_attention(path, tuple(DIMENSIONS))
    assert read.keys() == patterns.keys()
    for pattern, name in product(patterns, DIMENSIONS):
        np.testing.assert_array_equal(read[pattern][name], patterns[pattern][name])
        assert read[pattern][name].dtype == patterns[pattern][name].dtype


def test_attributes_survive_the_file(written):
    attributes, _ = read_attention(written[0], ("head_share",))
    assert (attributes["seed"], attributes["step"]) == (4, 500)
    assert (tuple(attributes["query_groups"]), tuple(attributes["key_groups"])) == (QUERY_GROUPS, KEY_GROUPS)
    assert json.loads(attributes["identity"]) == RUN


def test_only_the_named_datasets_are_read(written):
    _, read = read_attention(written[0], ("uniform_share",))
    assert [list(arrays) for arrays in read.values()] == [["uniform_share"]] * 2


@pytest.mark.parametrize("name", DIMENSIONS)
def test_every_dataset_has_its_dimension_names_as_labels(written, name):
    with h5py.File(written[0]) as stream:
        dataset = stream["random"][name]
        assert tuple(axis.label for axis in dataset.dims) == DIMENSIONS[name]
        assert dataset.ndim == len(DIMENSIONS[name])


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_truncated_file_is_damaged(written, kept):
    path, _ = written
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept >= 1 else int(kept * len(content))])
    with pytest.raises(DamagedFileError) as raised:
        read_attention(path, ("head_share",))
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_text_file_is_damaged(tmp_path):
    path = tmp_path / "step500.h5"
    path.write_text("not HDF5 at all\n" * 100)
    with pytest.raises(DamagedFileError) as raised:
        read_attention(path, ("head_share",))
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_foreign_hdf5_file_is_named_as_such(tmp_path):
    path = tmp_path / "step500.h5"
    with h5py.File(path, "w") as stream:
        stream.create_group("random").create_dataset("head_share", data=[1.0])
    with pytest.raises(DamagedFileError, match=r"step500\.h5: not an attention file.*delete it"):
        read_attention(path, ("head_share",))


def test_dataset_that_is_not_there_is_an_error_of_one_line(written):
    with pytest.raises(DamagedFileError) as raised:
        read_attention(written[0], ("activations",))
    assert "activations" in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_a_notebook_has_open_for_writing_is_not_damaged(written):
    code = "import sys, h5py; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(written[0])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as notebook:
        assert notebook.stdout.readline() == "open\n"
        with pytest.raises(UnreadableFileError, match="another program has it open for writing"):
            read_attention(written[0], ("head_share",))
        notebook.stdin.close()
    read_attention(written[0], ("head_share",))


def test_tidy_scores_by_hand():
    share = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2) / 100
    arrays = {"head_share": share, "uniform_share": np.array([[0.1, 0.2], [0.5, 0.0]])}
    attributes = {
        "seed": np.int64(3),
        "step": np.int64(20),
        "query_groups": ["all", "masked"],
        "key_groups": ["a", "b"],
    }
    table = tidy_shares(attributes, {"random": arrays, "masked_rows": arrays})
    assert list(table.columns) == [
        "seed",
        "step",
        "mask_pattern",
        "layer",
        "head",
        "query_group",
        "key_group",
        "share",
        "uniform_share",
        "score",
    ]
    assert len(table) == 2 * 24 and not table.duplicated(list(table.columns[:7])).any()
    row = table.query("mask_pattern == 'random' and layer == 2 and head == 3 and query_group == 'masked'")
    row = row.set_index("key_group")
    # Layer 2, head 3, second query group: elements [1, 2, 1, :] = 22 and 23 hundredths.
    assert row["share"].to_dict() == {"a": 0.22, "b": 0.23}
    assert row["score"].to_dict() == pytest.approx({"a": (0.22 - 0.5) / 0.5, "b": 0.23})
    assert (table["seed"] == 3).all() and (table["step"] == 20).all()


def test_score_is_zero_for_uniform_attention_and_one_for_all_mass_on_the_group():
    arrays = {"head_share": np.array([[[[0.3, 1.0]]]]), "uniform_share": np.array([[0.3, 0.3]])}
    attributes = {"seed": 0, "step": 0, "query_groups": ["all"], "key_groups": ["a", "b"]}
    assert tidy_shares(attributes, {"random": arrays})["score"].tolist() == [0.0, pytest.approx(1.0)]


def test_uniform_heads_of_a_file_score_zero_everywhere(tmp_path, batch):
    path = tmp_path / "uniform.h5"
    found = extract(Planted(torch.full((2, 2, LENGTH, LENGTH), 1 / LENGTH)), TASK, batch, 1)
    write_attention(path, {"random": found._asdict()}, DIMENSIONS, ATTRIBUTES, RUN)
    table = tidy_shares(*read_attention(path, ("head_share", "uniform_share")))
    np.testing.assert_allclose(table["score"], 0, atol=1e-6)
