"""The benchmark suite at a tiny shape: complete, with the right counts, against a baseline that computes the same."""

import sys
import time

import bench
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from baseline import EVAL_MATRICES, AuthorsLoop
from bench import rows_of
from drop_time import time_to_drop
from flops import baseline_flops, component_flops, forward_flops
from shapes import Shape, all_shapes, scale_config
from timing import Contender, Pace, steps_per_turn
from torch.utils.flop_counter import FlopCounterMode

from abrupt.models.bert import Hooks
from abrupt.models.components import COMPONENTS
from abrupt.training.cost import training_flops
from report import AXES, draw, markdown

TINY = Shape(
    "tiny",
    scale_config(
        "smoke",
        {
            "task": {"rows": 3, "columns": 3},
            "model": {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 20},
            "pretrain": {"batch_size": 5, "warmup_steps": 0, "log_every": 1, "eval_matrices": 6},
        },
    ),
    threads=1,
    components=True,
    variants=True,
    parts=True,
)
LENGTH, BATCH = 9, 5


@pytest.fixture(scope="module")
def table():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bench.GEMM_SIZES, "cpu", 32)
        patch.setitem(bench.VARIANTS, "cpu", {"bfloat16": {"precision": "bfloat16"}})  # compiling takes long
        effort = bench.Effort(seconds=0, job_seconds=0.05, turns=2, axis_turns=1)
        return bench.run_suite([TINY], TINY, list(AXES), effort, "cpu")


def test_every_contender_is_in_the_table_with_a_positive_time(table):
    training = table[table["benchmark"] == "training"]
    parts = {"sampling", "forward", "forward_backward", "optimiser", "evaluation"}
    assert set(training["contender"]) == {
        "pretraining", "authors_loop", "bfloat16", *COMPONENTS, *parts, "sgemm", "bf16_gemm",
    }  # fmt: skip
    assert set(table["benchmark"]) == {"training", *AXES, "jobs", "memory"}
    timed = table[table["benchmark"] != "memory"]
    assert (timed[["ms", "ms_q1", "ms_q3"]] > 0).all(axis=None)
    assert table["peak_rss_mb"].dropna().tolist() == [pytest.approx(350, abs=250)]  # no more than the tiny run has
    assert (training["turns"] == 2).all()


def test_what_is_compared_with_what(table):
    rows = table[table["benchmark"] == "training"].set_index("contender")
    assert set(rows.loc[["pretraining", "bfloat16"], "reference"]) == {"authors_loop"}
    ours = rows.loc["pretraining"]
    assert ours["ratio_q1"] <= ours["ratio"] <= ours["ratio_q3"]
    assert ours["flop_bound"] == pytest.approx((3 + 1 + EVAL_MATRICES / BATCH) / 3)
    assert set(rows.loc[list(COMPONENTS), "reference"]) == {"pretraining"}
    assert rows.loc["bf16_gemm", "fraction_of_ceiling"] != 1 and rows.loc["sgemm", "fraction_of_ceiling"] == 1


def test_a_slow_first_step_decides_nothing():
    delays = iter([0.5, 0.001])
    contender = Contender("compiled", lambda: time.sleep(next(delays)))
    assert steps_per_turn(contender, turns=1, pace=Pace(seconds=0.2)) > 2


def test_each_contender_makes_the_least_number_of_steps():
    assert steps_per_turn(Contender("quick", lambda: None), turns=15, pace=Pace(seconds=0, least_steps=200)) == 14


def test_a_ratio_is_the_median_of_ratios_within_turns_and_a_fraction_that_of_speeds():
    ours = Contender("ours", list, flops=100, reference="theirs")
    contenders = [ours, Contender("theirs", list, flops=250), Contender("sgemm", list, flops=1000)]
    times = np.array([[1.0, 1.0, 4.0], [2.0, 3.0, 20.0], [5.0, 5.0, 5.0]])
    row = rows_of("training", "any", contenders, times)[0]
    assert row["ms"] == 1 and row["ratio"] == 3 and row["flop_bound"] == 2.5
    assert row["fraction_of_ceiling"] == pytest.approx(100 / 1 / (1000 / 5))


def test_the_report_has_every_shape_contender_and_axis(table):
    text = markdown(table, {"cpu": "a machine", "blas": ["one", "two"]})
    for name in ("tiny | pretraining", *COMPONENTS, "sampling", "bf16_gemm", "depth | 6", "a machine", "one, two"):
        assert name in text
    jobs = text[text.index("## Jobs") :].splitlines()[4]
    assert jobs.startswith("| 1 | 1 | ")
    titles = [axes.get_title() or axes.get_xlabel() for axes in draw(table).axes]
    assert len(titles) == 9 and titles[-1] == "jobs"


def counted(component: str | None) -> int:
    """Products of one forward and backward pass by PyTorch's own counter, without those of the read-out.

    Through explicit attention weights: the counter does not know the fused attention of the CPU.
    """
    trainer = TINY.trainer("cpu", component)
    batch = trainer.objective.sample(BATCH, 0, "any", 0, "cpu")
    with FlopCounterMode(display=False) as counter:
        prediction = trainer.model.forward_with_hooks(batch.tokens, Hooks())
        F.mse_loss(prediction, batch.target.flatten(1)).backward()
    times = 2 if component else 3  # a frozen read-out needs no gradient of its weight
    return counter.get_total_flops() - times * 2 * BATCH * LENGTH * 8


def test_flops_of_pretraining_are_those_that_pytorch_counts():
    config = TINY.model().config
    assert training_flops(config, BATCH, LENGTH) == counted(None)


@pytest.mark.parametrize("component", COMPONENTS)
def test_flops_of_a_component_run_are_those_that_pytorch_counts(component):
    assert component_flops(component, TINY.model().config, BATCH, LENGTH) == counted(component)


def authors_loop(device: str = "cpu") -> AuthorsLoop:
    schedule = TINY.schedule
    betas = (schedule.adam_beta1, schedule.adam_beta2)
    return AuthorsLoop(TINY.model(), TINY.task, BATCH, schedule.learning_rate, betas, device)


def test_flops_of_the_authors_loop_are_those_that_pytorch_counts():
    loop, config = authors_loop(), TINY.model().config
    with FlopCounterMode(display=False) as counter:
        loop.advance()
    read_out = 2 * LENGTH * 8 * (4 * BATCH + EVAL_MATRICES)
    sampling = 2 * TINY.task.rank * LENGTH * (BATCH + EVAL_MATRICES)
    assert counter.get_total_flops() - read_out - sampling == baseline_flops(config, BATCH, EVAL_MATRICES, LENGTH)
    assert forward_flops(config, BATCH, LENGTH) == pytest.approx(training_flops(config, BATCH, LENGTH) / 3)


def test_the_authors_loop_has_the_losses_of_our_trainer():
    loop, trainer = authors_loop(), TINY.trainer("cpu")
    theirs = []
    for _ in range(5):
        trainer.advance()
        loop.advance()
        theirs.append(loop.training_loss.item())
    ours = [row[trainer.columns.index("mse_all")] for row in trainer.rows]
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert set(loop.losses) == {"all", "masked", "observed", "abs_prediction_masked", "eval"}


def test_the_authors_loop_runs_with_pytorchs_defaults_and_leaves_ours_alone():
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("high")
    seen = []
    loop = authors_loop()
    loop.model.register_forward_hook(
        lambda *_: seen.append((torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()))
    )
    try:
        loop.advance()
        assert seen == [(False, "highest")] * 3
        assert torch.are_deterministic_algorithms_enabled() and torch.get_float32_matmul_precision() == "high"
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("highest")


def test_the_shapes_are_those_of_the_workflow():
    shapes = {shape.name: shape for shape in all_shapes(everything=False)}
    assert list(shapes) == ["smoke", "cpu", "narrow_heads", "paper_batch32", "paper"]
    assert shapes["paper"].schedule.batch_size == 256 and shapes["paper_batch32"].schedule.batch_size == 32
    assert shapes["narrow_heads"].config["model"]["num_attention_heads"] == 8
    assert training_flops(shapes["cpu"].model().config, 64, 49) == pytest.approx(3.13e9, rel=0.01)


TELLS = """
import sys, time
print(0, "nan", flush=True)
for step in range(1, 1000):
    print(step, {loss}, flush=True)
    time.sleep(0.001)
"""


def test_time_to_drop_stops_the_run_once_the_drop_is_found():
    command = [sys.executable, "-c", TELLS.format(loss="0.1 if step <= 100 else 0.001")]
    result = time_to_drop(command, plateau=0.1)
    assert result["onset_step"] == 100 and result["last_step"] < 150
    assert 0 < result["seconds_to_first_step"] < result["seconds_to_onset"] < result["seconds"]


def test_time_to_drop_goes_on_to_the_steps_asked_for():
    command = [sys.executable, "-c", TELLS.format(loss="0.1 if step <= 100 else 0.001")]
    result = time_to_drop(command, plateau=0.1, steps=300)
    assert result["onset_step"] == 100 and result["last_step"] == 300
    assert result["final_mse_masked"] == 0.001


def test_time_to_drop_of_a_run_without_a_drop_is_censored():
    command = [sys.executable, "-c", TELLS.format(loss="0.1").replace("1000", "20")]
    result = time_to_drop(command, plateau=0.1)
    assert result["last_step"] == 19 and result["onset_step"] is None and result["seconds_to_onset"] is None
