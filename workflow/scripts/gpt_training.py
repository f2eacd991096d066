"""Train the decoder from scratch, and write its loss curve and its weights at the listed steps."""

from abrupt.job import job_log

with job_log(snakemake.log[0]):
    from abrupt.job import prepare_torch
    from abrupt.models.gpt import build_decoder, initialise
    from abrupt.sampling import make_generator
    from abrupt.storage.records import start
    from abrupt.task import Task
    from abrupt.training.job import train_job
    from abrupt.training.next_token import NextTokenPrediction

    identity = start(snakemake.params.identity, snakemake.input)
    device = prepare_torch(snakemake.config["device"], snakemake.params.threads)
    task = Task(**identity["task"])
    model = build_decoder(task, identity["model"])
    stds = identity["model"]["embedding_init_std"], identity["model"]["weight_init_std"]
    initialise(model, make_generator(identity["seed"], "gpt/init"), *stds)
    names = [name for name, _ in model.named_parameters()]
    train_job(snakemake, identity, device, model, names, NextTokenPrediction(task), stream="pretrain")
