"""What the three training jobs have in common: from an identity, and what is trained, to a run in the store."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from abrupt.storage.records import about_result, circumstances
from abrupt.training.cost import refuse_if_slow, training_flops
from abrupt.training.loop import Schedule, Trainer
from abrupt.training.resuming import train


def train_job(
    snakemake: Any,
    identity: dict[str, Any],
    device: str,
    model: nn.Module,
    trainable: Iterable[str],
    objective: Any,
    stream: str,
) -> None:
    """Train the parameters of `model` called `trainable` as the job's identity says, and put the results at the job's
    outputs; `stream` names the batches. How long is said by the last of the job's checkpoints.

    Raises InputError if it would take days on this CPU.
    """
    steps = int(snakemake.output.weights[-1].split("/step")[-1].removesuffix(".safetensors"))
    schedule = Schedule.from_config({**identity["pretrain"], "steps": steps}, steps)
    config = snakemake.config

    def refuse_slow_training(updates: int) -> None:
        flops = updates * training_flops(model.config, schedule.batch_size, objective.length)
        refuse_if_slow(flops, device, config["scale"], config["allow_slow"])

    train(
        Trainer(model, trainable, objective, schedule, identity["seed"], stream, device),
        snakemake.params.store,
        about_result(identity, circumstances(device, snakemake.params.threads)),
        config["pretrain"]["save_every"],
        {"training": snakemake.output.training, "weights": snakemake.output.weights},
        config["accept_code"],
        refuse_slow_training,
    )
