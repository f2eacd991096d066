"""The training loop against a plain one, and what it logs."""

import math

import numpy as np
import pytest
import torch
from device_reads import DeviceReads
from requirements import unavailable
from tiny_run import TASK, tiny_trainer

from abrupt.errors import InputError
from abrupt.models.components import COMPONENTS, give_parts, names_outside, parameter_names
from abrupt.sampling import Batch, sample_batch
from abrupt.training.loop import Trainer, check_compiler, tf32_products
from abrupt.training.objectives import MatrixCompletion, error_sums, means


def run(trainer, steps):
    for _ in range(steps):
        trainer.advance()
    return trainer


def test_rows_are_means_over_the_window_of_the_training_forward():
    trainer, shadow = tiny_trainer(), tiny_trainer()
    squared, masks = [], []
    for step in range(5):
        batch = sample_batch(TASK, 8, 0, "pretrain", step)
        with torch.no_grad():
            squared.append((shadow.model(batch.tokens) - batch.target.flatten(1)).double().numpy() ** 2)
        masks.append(~batch.observed.flatten(1).numpy())
        shadow.advance()
    run(trainer, 5)
    squared, masks = np.concatenate(squared), np.concatenate(masks)
    row = dict(zip(trainer.columns, trainer.rows[0], strict=True))
    assert row["step"] == 5
    assert row["mse_all"] == pytest.approx(squared.mean(), rel=1e-5)
    assert row["mse_masked"] == pytest.approx(squared[masks].mean(), rel=1e-5)
    assert row["mse_observed"] == pytest.approx(squared[~masks].mean(), rel=1e-5)


def test_one_row_every_log_every_and_an_evaluation_every_eval_every():
    trainer = run(tiny_trainer(), 20)
    column = trainer.columns.index("eval_mse_all")
    assert [row[0] for row in trainer.rows] == [5, 10, 15, 20]
    assert [math.isnan(row[column]) for row in trainer.rows] == [True, False, True, False]


def test_evaluation_batch_is_the_same_every_time_and_apart_from_training():
    trainer = tiny_trainer()
    before = trainer.eval_batches[0].tokens.clone()
    run(trainer, 10)
    assert torch.equal(trainer.eval_batches[0].tokens, before)
    assert not torch.equal(sample_batch(TASK, 16, 0, "pretrain", 0).tokens, before)


def test_means_survive_a_batch_without_masked_entries():
    batch = sample_batch(TASK, 2, 0, "x")
    batch = Batch(batch.tokens, batch.target, torch.ones_like(batch.observed))
    result = means(error_sums(batch.target.flatten(1) + 1, batch))
    assert result[:2].tolist() == [1.0, 1.0] and result[2:].isnan().all()


def test_evaluation_correlation_is_one_for_a_perfect_model():
    batch = sample_batch(TASK, 16, 0, "x")
    result = MatrixCompletion(TASK).evaluate(lambda tokens: batch.target.flatten(1), [batch])
    assert result[0] == 0 and result[-1] == pytest.approx(1)


def test_warm_up_is_linear_then_constant():
    schedule = tiny_trainer(warmup_steps=4).schedule
    rates = [schedule.learning_rate_at(step) / schedule.learning_rate for step in range(6)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert tiny_trainer(warmup_steps=0).schedule.learning_rate_at(0) == schedule.learning_rate


def lost_trainer():
    """A trainer whose loss was infinite at its last step, 8, of a window of 5."""
    trainer = run(tiny_trainer(log_every=5), 7)
    with torch.no_grad():
        trainer.model.read_out.bias.fill_(math.inf)
    return run(trainer, 1)


def test_a_non_finite_loss_ends_the_run_at_the_next_row():
    with pytest.raises(InputError, match="5 steps up to 10.*learning_rate"):
        run(lost_trainer(), 2)


def test_a_non_finite_loss_is_never_saved():
    with pytest.raises(InputError, match="5 steps up to 8.*learning_rate"):
        lost_trainer().state()


def test_weights_that_are_lost_at_the_last_step_are_never_saved():
    trainer = run(tiny_trainer(log_every=5), 10)
    with torch.no_grad():
        trainer.model.read_out.bias.fill_(math.nan)
    with pytest.raises(InputError, match="steps up to 10"):
        trainer.check_finite()


def test_tf32_on_a_cpu_is_refused():
    with pytest.raises(InputError, match="pretrain.precision: tf32 needs a GPU"):
        tiny_trainer(precision="tf32")


def test_products_are_tf32_inside_the_context_alone():
    with tf32_products(True):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"


def test_bfloat16_rounds_the_products_and_keeps_the_weights_in_full_precision():
    full, rounded = run(tiny_trainer(), 10), run(tiny_trainer(precision="bfloat16"), 10)
    assert all(value.dtype == torch.float32 for value in rounded.trained.values())
    losses = [trainer.rows[0][1] for trainer in (full, rounded)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.02)


def test_nothing_is_read_from_the_device_within_a_window_and_something_at_its_end():
    trainer = run(tiny_trainer(log_every=5), 5)
    with DeviceReads() as within:
        run(trainer, 4)
    with DeviceReads() as at_the_end:
        run(trainer, 1)
    assert within.seen == [] and at_the_end.seen != []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_not_waited_for_within_a_window():
    trainer = run(tiny_trainer(device="cuda"), 5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(trainer, 4)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def compiled_trainer(**changes):
    """As in a process of its own: nothing compiled is left from before."""
    try:
        check_compiler()
    except InputError as error:
        unavailable(str(error))
    torch.compiler.reset()
    return tiny_trainer(compile=True, **changes)


def test_a_compiled_run_differs_by_rounding_and_goes_on_with_the_same_bits():
    whole, plain = run(compiled_trainer(), 15), run(tiny_trainer(), 15)
    losses = np.array(whole.rows)[:, 1]
    assert losses == pytest.approx(np.array(plain.rows)[:, 1], rel=1e-5) and losses[-1] != plain.rows[-1][1]
    state = {name: value.clone() for name, value in run(compiled_trainer(), 7).state().items()}
    resumed = compiled_trainer()
    resumed.load_state(state)
    run(resumed, 8)
    for name, value in whole.state().items():
        assert torch.equal(value.nan_to_num(), resumed.state()[name].nan_to_num()), name


def test_a_compiled_run_in_bfloat16_differs_by_rounding():
    losses, plain = (
        np.array(run(make(precision="bfloat16"), 10).rows)[:, 1] for make in (compiled_trainer, tiny_trainer)
    )
    assert losses == pytest.approx(plain, rel=0.02)


@pytest.mark.parametrize(
    ("variable", "value", "said"), [("PATH", "", "no C\\+\\+ compiler"), ("CXX", "none-such", "none-such")]
)
def test_compiling_without_a_compiler_is_refused(monkeypatch, variable, value, said):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=f"pretrain.compile.*{said}"):
        tiny_trainer(compile=True)


@pytest.mark.parametrize("stop", [1, 5, 13])
def test_going_on_from_a_saved_state_gives_the_same_bits(stop):
    whole = run(tiny_trainer(), 25)
    state = {name: value.clone() for name, value in run(tiny_trainer(), stop).state().items()}
    resumed = tiny_trainer()
    resumed.load_state(state)
    run(resumed, 25 - stop)
    for name, value in whole.state().items():
        assert torch.equal(value.nan_to_num(), resumed.state()[name].nan_to_num()), name


def assert_same_state(trainer, other):
    own, others = trainer.state(), other.state()
    assert own.keys() == others.keys()
    for name, value in own.items():
        assert torch.equal(value.nan_to_num(), others[name].nan_to_num()), name


def test_a_short_run_is_the_beginning_of_a_longer_one():
    short, longer = tiny_trainer(steps=20), run(tiny_trainer(steps=1000), 20)
    while not short.finished:
        short.advance()
    assert len(short.rows) == 4
    assert_same_state(short, longer)


class Recorder:
    """An observer of every third update, which reads weights and gathers the steps."""

    name = "recorder"

    def __init__(self):
        self.steps = []

    def is_due(self, step):
        return step % 3 == 0

    def observe(self, trainer):
        assert all(value.isfinite().all() for value in trainer.model.parameters())
        self.steps.append((trainer.step, len(trainer.rows)))

    def state(self):
        return {"steps": torch.tensor(self.steps)}

    def load_state(self, state):
        self.steps = [tuple(pair) for pair in state["steps"].tolist()]


def observed_trainer():
    base = tiny_trainer()
    names = list(base.trained)
    return Trainer(base.model, names, base.objective, base.schedule, 0, "pretrain", "cpu", [Recorder()])


def test_an_observer_is_called_after_the_updates_that_it_asked_for_and_their_rows():
    assert run(observed_trainer(), 16).observers[0].steps == [(3, 0), (6, 1), (9, 1), (12, 2), (15, 3)]


def test_an_observer_changes_no_bit_of_the_run_and_goes_on_where_it_was():
    observed, plain = run(observed_trainer(), 8), run(tiny_trainer(), 16)
    resumed = observed_trainer()
    resumed.load_state({name: value.clone() for name, value in observed.state().items()})
    for trainer in (observed, resumed):
        run(trainer, 8)
    assert_same_state(resumed, observed)
    observed.observers.clear()
    assert_same_state(observed, plain)


def test_a_fork_is_its_parent_up_to_a_step_and_has_the_data_of_another_seed_from_there():
    parent = run(tiny_trainer(), 12)
    base = tiny_trainer()
    fork = Trainer(base.model, list(base.trained), base.objective, base.schedule, 5, "pretrain", "cpu", [Recorder()])
    fork.start_from({name: value.clone() for name, value in run(observed_trainer(), 12).state().items()})
    assert fork.rows[0][:5] == parent.rows[0][:5] and fork.observers[0].steps == []
    shadow, squared = run(tiny_trainer(), 12), []
    shadow.seed, shadow.eval_batches = 5, fork.eval_batches
    run(fork, 8)
    for step in range(12, 20):
        batch = sample_batch(TASK, 8, 5, "pretrain", step)
        with torch.no_grad():
            squared.append(((shadow.model(batch.tokens) - batch.target.flatten(1)) ** 2).mean().item())
        shadow.advance()
    assert fork.rows[3][1] == pytest.approx(np.mean(squared[3:]), rel=1e-5)
    fork.observers.clear()
    assert_same_state(fork, shadow)
    assert fork.rows[3] != run(parent, 8).rows[3]


def test_a_fork_cannot_train_what_its_parent_did_not():
    base, whole = tiny_trainer(), tiny_trainer()
    parent = Trainer(base.model, ["read_out.bias"], base.objective, base.schedule, 0, "pretrain", "cpu")
    with pytest.raises(KeyError, match="exp_avg.embeddings"):
        whole.start_from(parent.state())


@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_with_given_parts_starts_from_them_and_trains_them_unless_they_are_frozen(frozen):
    donor, base = run(tiny_trainer(), 30), tiny_trainer()
    give_parts(base.model, donor.model, ["attention"])
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    given = parameter_names(base.model, ["attention"])
    names = names_outside(base.model, ["attention"]) if frozen else list(before)
    trainer = run(Trainer(base.model, names, base.objective, base.schedule, 0, "pretrain", "cpu"), 3)
    assert all(torch.equal(before[name], donor.model.state_dict()[name]) for name in given)
    unchanged = {name for name, value in trainer.model.state_dict().items() if torch.equal(value, before[name])}
    assert unchanged == (set(given) if frozen else set())


def test_a_bias_of_the_logits_is_there_in_training():
    """Where a position attends to itself alone, queries and keys decide nothing and get no gradient."""
    trainer = tiny_trainer()
    bias = torch.full((1, 2, 12, 12), -math.inf)
    bias[..., range(12), range(12)] = 0
    trainer.model.set_attention_logits(bias)
    before = trainer.model.layers[0].attention.query_key_value.weight.detach().clone()
    after = run(trainer, 5).model.layers[0].attention.query_key_value.weight
    changed = [not torch.equal(a, b) for a, b in zip(before.chunk(3), after.chunk(3), strict=True)]
    assert changed == [False, False, True]


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_run_changes_its_component_and_nothing_else(component):
    base = tiny_trainer()
    names = parameter_names(base.model, COMPONENTS[component])
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    trainer = run(Trainer(base.model, names, MatrixCompletion(TASK), base.schedule, 0, "components", "cpu"), 3)
    after = trainer.model.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == set(names)
    assert all(p.grad is None for name, p in trainer.model.named_parameters() if name not in names)
