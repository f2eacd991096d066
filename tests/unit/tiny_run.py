"""A pretraining run small enough to be killed again and again: tiny_run.py ROOT OUT [STEPS]."""

import logging
import sys
from pathlib import Path

from abrupt.job import prepare_torch
from abrupt.models.bert import Bert, BertConfig, initialise
from abrupt.sampling import make_generator
from abrupt.task import Task
from abrupt.training.loop import Schedule, Trainer
from abrupt.training.objectives import MatrixCompletion
from abrupt.training.resuming import RunState, train

TASK = Task(
    rows=3, columns=4, rank=1, mask_probability=0.3, decimals=2, max_value=1, factor_law="uniform", factor_scale=1
)
CHECKPOINT_STEPS = (0, 100, 1000)


def tiny_trainer(steps: int = 1000, device: str = "cpu", **changes) -> Trainer:
    values = {
        "steps": steps,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "warmup_steps": 5,
        "adam_beta1": 0.9,
        "adam_beta2": 0.98,
        "log_every": 5,
        "eval_every": 10,
        "eval_matrices": 16,
        "precision": "float32",
        "compile": False,
    }
    model = Bert(BertConfig(TASK.vocab_size, 16, 1, 2, 32, 12))
    names = [name for name, _ in model.named_parameters()]
    initialise(model, names, make_generator(0, "init"), embedding_std=0.02, weight_std=0.2)
    schedule = Schedule(**{**values, **changes})
    return Trainer(model, names, MatrixCompletion(TASK), schedule, seed=0, stream="pretrain", device=device)


def outputs(folder: Path, steps: int) -> list[str]:
    checkpoints = [f"step{step}.safetensors" for step in (*CHECKPOINT_STEPS[:-1], steps)]
    return [str(folder / name) for name in ("training.csv", *checkpoints)]


if __name__ == "__main__":
    root, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    prepare_torch("cpu", threads=1)
    train(
        tiny_trainer(steps),
        RunState(root, run={"steps": steps}, environment={"threads": 1}),
        (*CHECKPOINT_STEPS[:-1], steps),
        save_every=20,
        outputs=outputs(out, steps),
    )
