"""Runs of their own: what they change, and one model of several sizes."""

import copy
import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from abrupt.config.settings import check, flattened, merged
from abrupt.config.variants import families, gpt_changes, variants
from abrupt.errors import InputError
from abrupt.sampling import sample_batch
from abrupt.task import Task
from abrupt.training.objectives import COLUMNS, MatrixCompletion

ROOT = Path(__file__).resolve().parents[2]
CONFIG = merged(
    yaml.safe_load((ROOT / "config.yaml").read_text()),
    {
        "task": {"rows": 7, "columns": 7, "rank": 1, "max_value": 10, "factor_law": "uniform", "factor_scale": 1},
        "model": {
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
        },
        "pretrain": {"log_every": 50, "eval_every": 250},
        "runs": {
            "sweeps": {"steps": 800, "width": [32, 64], "depth": [2, 3], "heads": [1, 4]},
            "mixture": {"steps": 500, "sizes": [5, 7, 9], "rank": 1},
            "larger": {"steps": 600, "sizes": [8, 10], "rank": 2},
            "gaussian": {"steps": 700, "scale": 0.5, "max_value": 9},
        },
    },
)
SIZES = [3, 4, 5]
MIXTURE = MatrixCompletion.of_sizes(Task(**{**CONFIG["task"], "max_value": 1}), SIZES)


def changed_keys(name):
    """What a run changes of the config, without the length that all of them have."""
    run = flattened(merged(CONFIG, variants(CONFIG)[name]))
    base = flattened(CONFIG)
    differing = {key for key in run if run[key] != base.get(key)}
    return differing - {"pretrain.steps", "pretrain.checkpoint_steps", "pretrain.threads"}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("width32_depth3_heads4", {"model.hidden_size", "model.intermediate_size"}),
        ("width64_depth2_heads4", {"model.num_hidden_layers"}),
        ("width64_depth3_heads1", {"model.num_attention_heads"}),
        ("width64_depth3_heads4", set()),
        ("mixture", {"task.rows", "task.columns", "model.max_position_embeddings", "pretrain.sizes"}),
        ("size8", {"task.rows", "task.columns", "task.rank"}),
        ("size10", {"task.rows", "task.columns", "task.rank", "model.max_position_embeddings"}),
        ("gaussian", {"task.factor_law", "task.factor_scale", "task.max_value"}),
    ],
)
def test_a_run_changes_what_its_name_says_and_nothing_else(name, keys):
    assert changed_keys(name) == keys


def test_the_member_with_the_main_run_s_values_is_one_run_for_all_sweeps():
    of_family = families(CONFIG)
    assert set.intersection(*(set(of_family[name]) for name in ("width", "depth", "heads"))) == {
        "width64_depth3_heads4"
    }


def test_the_mlp_keeps_its_ratio_to_the_width():
    assert variants(CONFIG)["width32_depth3_heads4"]["model"]["intermediate_size"] == 128


@pytest.mark.parametrize(("size", "slots"), [(8, 64), (10, 100)])
def test_larger_matrices_have_a_position_for_every_entry(size, slots):
    model = merged(CONFIG, variants(CONFIG)[f"size{size}"])["model"]
    assert model["max_position_embeddings"] == slots


def test_every_run_keeps_the_weights_of_its_last_step():
    lengths = {name: changes["pretrain"]["steps"] for name, changes in variants(CONFIG).items()}
    assert lengths["size8"] == 600 and lengths["mixture"] == 500 and lengths["gaussian"] == 700
    for name, changes in variants(CONFIG).items():
        assert changes["pretrain"]["checkpoint_steps"] == [lengths[name]]


def with_value(path, value):
    config = copy.deepcopy(CONFIG)
    *sections, key = path.split(".")
    section = config
    for name in sections:
        section = section[name]
    section[key] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("runs.sweeps.width", [30, 64], "runs: width30_depth3_heads4: model.hidden_size 30 is not divisible by"),
        ("runs.sweeps.heads", [5], "runs: width64_depth3_heads5: model.hidden_size 64 is not divisible by"),
        ("runs.mixture.rank", 6, "runs: mixture: task.rank 6 exceeds min(rows, columns) = 5"),
        ("runs.larger.rank", 9, "runs: size8: task.rank 9 exceeds min(rows, columns) = 8"),
        ("runs.sweeps.steps", 810, "runs: width32_depth3_heads4: pretrain.steps 810 is not a multiple of"),
        ("gpt.model.num_attention_heads", 3, "gpt.model.hidden_size 64 is not divisible by"),
        ("gpt.pretrain.checkpoint_steps", [0], "gpt.pretrain.checkpoint_steps must include"),
    ],
)
def test_a_run_that_cannot_be_trained_is_one_line(path, value, line):
    with pytest.raises(InputError) as raised:
        check(with_value(path, value))
    (found,) = str(raised.value).splitlines()
    assert found.startswith(f"config: {line}")


@pytest.mark.parametrize(("rank", "scale", "max_value"), [(1, 1, 1), (2, 1, 2), (2, 0.5, 1), (2, 1.5, 5)])
def test_the_decoder_s_vocabulary_holds_every_entry_and_no_more(rank, scale, max_value):
    config = merged(CONFIG, {"task": {"rank": rank, "factor_scale": scale}})
    assert gpt_changes(config)["task"]["max_value"] == max_value


def shapes(count, seed=0):
    return [tuple(MIXTURE.sample(2, seed, "pretrain", step, "cpu").target.shape[1:]) for step in range(count)]


def test_a_mixture_draws_every_size_equally_often():
    drawn = shapes(3000)
    for size in SIZES:
        assert abs(drawn.count((size, size)) - 1000) < 5 * math.sqrt(3000 * 2 / 9)


def test_sizes_of_successive_updates_are_independent():
    drawn = shapes(3000)
    assert abs(sum(a == b for a, b in zip(drawn, drawn[1:], strict=False)) - 1000) < 5 * math.sqrt(3000 * 2 / 9)


def test_a_mixture_s_batch_is_a_function_of_seed_stream_and_step_alone():
    first = MIXTURE.sample(4, 0, "pretrain", 7, "cpu")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = MIXTURE.sample(4, 0, "pretrain", 7, "cpu")
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert shapes(50) != shapes(50, seed=1)


def test_a_batch_of_one_size_is_that_of_the_task_alone():
    (task,) = [task for task in MIXTURE.tasks if (task.rows, task.columns) == shapes(1)[0]]
    alone = sample_batch(task, 4, 0, "pretrain", 0)
    assert torch.equal(MIXTURE.sample(4, 0, "pretrain", 0, "cpu").tokens, alone.tokens)


class Constant(nn.Module):
    """Predicts the same value everywhere, for each number of entries another."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def forward(self, tokens):
        return torch.full(tokens.shape, self.values[tokens.shape[1]])


def zeros(task: Task, count: int):
    batch = sample_batch(task, count, 0, "x")
    return batch._replace(target=torch.zeros_like(batch.target))


def test_a_mixture_logs_the_error_at_each_size_and_over_all():
    model = Constant({9: 1.0, 16: 2.0, 25: 3.0})
    batches = [zeros(task, 8) for task in MIXTURE.tasks]
    sums = sum(MIXTURE.loss(model, batch)[1] for batch in batches)
    row = dict(zip(MIXTURE.columns, MIXTURE.means(sums).tolist(), strict=True))
    assert [row[f"mse_masked_{size}x{size}"] for size in SIZES] == [1, 4, 9]
    masked = [(~batch.observed).sum().item() for batch in batches]
    assert row["mse_masked"] == pytest.approx((masked[0] + 4 * masked[1] + 9 * masked[2]) / sum(masked))


def test_a_size_that_no_update_drew_has_no_error():
    sums = MIXTURE.loss(Constant({9: 1.0}), zeros(MIXTURE.tasks[0], 8))[1]
    row = dict(zip(MIXTURE.columns, MIXTURE.means(sums).tolist(), strict=True))
    assert row["mse_masked_3x3"] == 1 and math.isnan(row["mse_masked_4x4"]) and row["mse_masked"] == 1


def test_one_task_is_logged_as_before():
    assert MatrixCompletion.of_sizes(Task(**CONFIG["task"]), []).columns == COLUMNS
