"""A pretraining run small enough to be killed again and again: tiny_run.py STORE OUT STEPS [BATCH_SIZE]."""

import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from abrupt.job import prepare_torch
from abrupt.models.bert import build_bert, initialise
from abrupt.sampling import make_generator
from abrupt.storage.records import about_result, circumstances, code_identity
from abrupt.task import Task
from abrupt.training.loop import Schedule, Trainer
from abrupt.training.objectives import MatrixCompletion
from abrupt.training.resuming import train

TASK = Task(
    rows=3, columns=4, rank=1, mask_probability=0.3, decimals=2, max_value=1, factor_law="uniform", factor_scale=1
)
MODEL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 12,
    "embedding_init_std": 0.02,
    "weight_init_std": 0.2,
}
PRETRAIN = {
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


def tiny_trainer(steps: int = 1000, device: str = "cpu", **changes: Any) -> Trainer:
    model = build_bert(TASK, MODEL)
    names = [name for name, _ in model.named_parameters()]
    stds = MODEL["embedding_init_std"], MODEL["weight_init_std"]
    initialise(model, names, make_generator(0, "init"), *stds)
    schedule = Schedule(**{**PRETRAIN, "steps": steps, **changes})
    return Trainer(model, names, MatrixCompletion(TASK), schedule, seed=0, stream="pretrain", device=device)


def about(threads: int = 1, code: str | None = None, **changes: Any) -> dict[str, Any]:
    """What is said of the run of `tiny_trainer(**changes)`; `code` takes the place of the digest of its code."""
    identity = {
        "kind": "pretraining",
        "task": asdict(TASK),
        "model": MODEL,
        "pretrain": {**PRETRAIN, **changes},
        "seed": 0,
        "code": code_identity("scripts/pretrain.py"),
    }
    if code is not None:
        identity["code"]["digest"] = code
    return about_result(identity, circumstances("cpu", threads))


def outputs(folder: Path, steps: int, early: tuple[int, ...] = (0, 100)) -> dict[str, Any]:
    weights = [str(folder / f"step{step}.safetensors") for step in (*early, steps)]
    return {"training": str(folder / "training.csv"), "weights": weights}


if __name__ == "__main__":
    store, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    changes = {"batch_size": int(sys.argv[4])} if sys.argv[4:] else {}
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    prepare_torch("cpu", threads=1)
    train(tiny_trainer(steps, **changes), store, about(**changes), 20, outputs(out, steps))
