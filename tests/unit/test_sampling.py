import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abrupt.errors import InputError
from abrupt.sampling import (
    make_generator,
    sample_batch,
    sample_factors,
    sample_matrices,
    sample_observed,
    token_ids,
    tokenise,
)
from abrupt.task import Task

PAPER = Task(
    rows=7, columns=7, rank=2, mask_probability=0.3, decimals=2, max_value=10, factor_law="uniform", factor_scale=1
)
NON_SQUARE = Task(
    rows=3, columns=5, rank=2, mask_probability=0.4, decimals=2, max_value=2, factor_law="uniform", factor_scale=1
)

quick = settings(max_examples=30, deadline=None, database=None, derandomize=True)
seeds = st.integers(0, 999_999)
tasks = st.builds(
    Task,
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    rank=st.integers(1, 4),
    mask_probability=st.floats(0.1, 0.9),
    decimals=st.integers(1, 4),
    max_value=st.integers(4, 12),
    factor_law=st.just("uniform"),
    factor_scale=st.just(1.0),
)


def decoded(task: Task, tokens: torch.Tensor) -> np.ndarray:
    """Values of non-MASK tokens, in double precision."""
    return (tokens.numpy() - 1) / 10**task.decimals - task.max_value


@quick
@given(task=tasks, seed=seeds)
def test_batch_has_the_documented_shapes_and_types(task, seed):
    batch = sample_batch(task, 3, seed, "train")
    assert (batch.tokens.shape, batch.tokens.dtype) == ((3, task.rows * task.columns), torch.int64)
    assert (batch.target.shape, batch.target.dtype) == ((3, task.rows, task.columns), torch.float32)
    assert (batch.observed.shape, batch.observed.dtype) == ((3, task.rows, task.columns), torch.bool)


@quick
@given(seed=seeds, rank=st.integers(1, 3), rows=st.integers(4, 7), columns=st.integers(4, 7))
def test_unrounded_matrices_have_at_most_the_given_rank(seed, rank, rows, columns):
    # Twelve decimals are beyond float32: the product as good as unrounded.
    task = Task(
        rows, columns, rank, mask_probability=0.3, decimals=12, max_value=10, factor_law="uniform", factor_scale=1
    )
    matrices = sample_matrices(task, 8, torch.Generator().manual_seed(seed)).double().numpy()
    singular = np.linalg.svd(matrices, compute_uv=False)
    assert (singular[:, rank:] < 1e-5).all()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_matrices_attain_the_given_rank(rank):
    task = Task(7, 6, rank, mask_probability=0.3, decimals=12, max_value=10, factor_law="uniform", factor_scale=1)
    matrices = sample_matrices(task, 100, torch.Generator().manual_seed(0)).numpy()
    assert np.median(np.linalg.svd(matrices, compute_uv=False)[:, rank - 1]) > 0.1


@quick
@given(task=tasks, seed=seeds)
def test_matrices_are_the_rounded_product_of_the_two_factors(task, seed):
    matrices = sample_matrices(task, 4, torch.Generator().manual_seed(seed)).double().numpy()
    again = torch.Generator().manual_seed(seed)
    left, right = (
        (torch.rand(4, size, task.rank, generator=again) * 2 - 1).double().numpy() for size in (task.rows, task.columns)
    )
    # Half a unit of the last decimal, and float32 error of the product.
    assert np.abs(matrices - left @ right.transpose(0, 2, 1)).max() <= 0.5 * 10.0**-task.decimals + 2e-6


@quick
@given(task=tasks, seed=seeds)
def test_entries_are_bounded_by_the_rank(task, seed):
    assert sample_matrices(task, 32, torch.Generator().manual_seed(seed)).abs().max() <= task.rank


@quick
@given(task=tasks, seed=seeds)
def test_entries_are_the_float32_nearest_to_a_multiple_of_the_last_decimal(task, seed):
    entries = sample_matrices(task, 8, torch.Generator().manual_seed(seed)).numpy()
    units = np.rint(entries.astype(float) * 10**task.decimals)
    np.testing.assert_array_equal(entries, (units / 10**task.decimals).astype(np.float32))


@quick
@given(task=tasks, seed=seeds)
def test_tokens_of_observed_entries_decode_to_the_target(task, seed):
    batch = sample_batch(task, 4, seed, "train")
    observed = batch.observed.flatten(1)
    values = decoded(task, batch.tokens[observed])
    np.testing.assert_array_equal(values.round(task.decimals).astype(np.float32), batch.target.flatten(1)[observed])


@quick
@given(task=tasks, seed=seeds)
def test_mask_token_stands_exactly_where_nothing_is_observed(task, seed):
    batch = sample_batch(task, 4, seed, "train")
    assert torch.equal(batch.tokens == 0, ~batch.observed.flatten(1))


@pytest.mark.parametrize(("decimals", "max_value"), [(1, 1), (2, 10), (3, 7), (4, 100)])
def test_values_and_tokens_are_in_bijection(decimals, max_value):
    task = Task(3, 3, 1, 0.3, decimals, max_value, "uniform", 1)
    units = np.arange(-max_value * 10**decimals, max_value * 10**decimals + 1)
    values = torch.from_numpy((units / 10**decimals).astype(np.float32))
    assert torch.equal(token_ids(task, values), torch.arange(1, task.vocab_size))


@pytest.mark.parametrize(("value", "token"), [(-10.0, 1), (0.0, 1001), (0.01, 1002), (10.0, 2001)])
def test_token_ids_of_the_paper(value, token):
    assert token_ids(PAPER, torch.tensor(value)).item() == token


def test_tokens_are_in_row_major_order_on_a_non_square_matrix():
    batch = sample_batch(NON_SQUARE, 2, 0, "train")
    for sample, row, column in np.ndindex(2, 3, 5):
        token = batch.tokens[sample, 5 * row + column].item()
        if batch.observed[sample, row, column]:
            expected = round((batch.target[sample, row, column].item() + 2) * 100) + 1
        else:
            expected = 0
        assert token == expected


def test_tokenise_gives_the_tokens_of_the_batch():
    batch = sample_batch(NON_SQUARE, 5, 0, "train")
    assert torch.equal(tokenise(NON_SQUARE, batch.target, batch.observed), batch.tokens)


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.9])
def test_every_position_is_masked_with_the_given_probability(probability):
    task = Task(3, 4, 1, probability, 2, 1, "uniform", 1)
    count = 20_000
    masked = ~sample_observed(task, count, torch.Generator().manual_seed(1))
    standard_error = (probability * (1 - probability) / count) ** 0.5
    assert (masked.double().mean(0) - probability).abs().max() < 5 * standard_error


def test_masks_of_two_positions_are_independent():
    observed = sample_observed(
        Task(1, 2, 1, 0.5, 2, 1, "uniform", 1), 20_000, torch.Generator().manual_seed(1)
    ).double()
    both = (observed[:, 0, 0] * observed[:, 0, 1]).mean().item()
    assert abs(both - 0.25) < 5 * (0.25 * 0.75 / 20_000) ** 0.5


@quick
@given(seed=seeds, stream=st.sampled_from(["pretrain", "eval"]), step=st.integers(0, 10**6), other=seeds)
def test_batch_is_a_function_of_seed_stream_and_step_alone(seed, stream, step, other):
    first = sample_batch(NON_SQUARE, 2, seed, stream, step)
    torch.manual_seed(other)
    second = sample_batch(NON_SQUARE, 2, seed, stream, step)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_sampling_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    sample_batch(PAPER, 8, 0, "train", 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "other",
    [(1, "pretrain", 5), (0, "eval", 5), (0, "pretrain", 6)],
    ids=["seed", "stream", "step"],
)
def test_another_seed_stream_or_step_gives_another_batch(other):
    first, second = sample_batch(PAPER, 4, 0, "pretrain", 5), sample_batch(PAPER, 4, *other)
    assert not torch.equal(first.target, second.target)
    assert not torch.equal(first.observed, second.observed)


def test_two_thousand_steps_of_a_stream_give_as_many_batches():
    batches = {sample_batch(PAPER, 1, 0, "pretrain", step).target.numpy().tobytes() for step in range(2000)}
    assert len(batches) == 2000


def test_generators_of_a_paper_length_run_differ_in_the_32_bits_that_pytorch_keeps():
    kept = {make_generator(0, "pretrain", step).initial_seed() % 2**32 for step in range(50_000)}
    assert len(kept) == 50_000


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_held_out_batches_are_not_among_the_training_batches(seed):
    training = {make_generator(seed, "pretrain", step).initial_seed() for step in range(50_000)}
    held_out = {make_generator(seed, stream).initial_seed() for stream in ("eval", "analysis", "attention")}
    assert len(held_out) == 3 and not held_out & training


@pytest.mark.parametrize("value", [10.01, -10.01, 1e6, float("inf")])
def test_value_outside_the_vocabulary_is_an_error_that_names_value_and_range(value):
    values = torch.tensor([[0.5, value]])
    with pytest.raises(InputError) as raised:
        token_ids(PAPER, values)
    assert f"{value:.4g}" in str(raised.value) and "[-10, 10]" in str(raised.value)


def test_nan_is_outside_the_vocabulary():
    with pytest.raises(InputError, match="nan"):
        token_ids(PAPER, torch.tensor([0.5, float("nan")]))


def test_tokenise_refuses_a_value_outside_the_vocabulary():
    matrices = torch.tensor([[[0.0, 3.5]]])
    with pytest.raises(InputError, match=r"3\.5.*\[-2, 2\]"):
        tokenise(NON_SQUARE, matrices, torch.ones(1, 1, 2, dtype=torch.bool))


@pytest.mark.parametrize("rank", [1, 2])
def test_mean_square_entry_is_rank_over_nine(rank):
    task = Task(7, 7, rank, 0.3, 2, 10, "uniform", 1)
    # Entries of one matrix are correlated: the matrices are the independent samples.
    means = (sample_matrices(task, 20_000, torch.Generator().manual_seed(2)).double() ** 2).mean((1, 2))
    standard_error = means.std() / len(means) ** 0.5
    assert abs(means.mean() - rank / 9) < 4 * standard_error


@pytest.mark.parametrize(("law", "scale"), [("uniform", 1), ("uniform", 0.5), ("gaussian", 0.5), ("laplace", 0.25)])
@pytest.mark.parametrize("rank", [1, 2])
def test_mean_square_of_an_entry_is_the_entry_variance(law, scale, rank):
    task = Task(3, 3, rank, 0.3, 4, 100, law, scale)
    matrices = sample_matrices(task, 100_000, torch.Generator().manual_seed(0))
    assert (matrices**2).mean().item() == pytest.approx(task.entry_variance, rel=0.05)


def test_laplace_factors_have_the_quantiles_of_their_law():
    task = Task(3, 3, 1, 0.3, 2, 100, "laplace", 0.25)
    factors = sample_factors(task, (200_000,), torch.Generator().manual_seed(0)) / 0.25
    found = torch.quantile(factors, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]))
    tails = np.log([10, 2])
    np.testing.assert_allclose(found, [-tails[0], -tails[1], 0, tails[1], tails[0]], atol=0.02)
    assert factors.isfinite().all()


def test_a_batch_beyond_the_vocabulary_is_an_error_that_names_value_and_range():
    task = Task(7, 7, 1, 0.3, 2, 1, "gaussian", 2)
    with pytest.raises(InputError, match=r"value -?\d.* outside the vocabulary \[-1, 1\]"):
        sample_batch(task, 64, 0, "train")
