"""Train all parameters from scratch, and write the loss curve and the weights at the listed steps."""

from abrupt.job import job_log

with job_log(snakemake.log[0]):
    from abrupt.job import prepare_torch
    from abrupt.models.bert import build_bert, initialise
    from abrupt.sampling import make_generator
    from abrupt.storage.records import start
    from abrupt.task import Task
    from abrupt.training.job import train_job
    from abrupt.training.objectives import MatrixCompletion

    identity = start(snakemake.params.identity, snakemake.input)
    device = prepare_torch(snakemake.config["device"], snakemake.params.threads)
    task = Task(**identity["task"])
    model = build_bert(task, identity["model"])
    names = [name for name, _ in model.named_parameters()]
    stds = identity["model"]["embedding_init_std"], identity["model"]["weight_init_std"]
    initialise(model, names, make_generator(identity["seed"], "init"), *stds)
    objective = MatrixCompletion.for_sizes(task, identity["pretrain"].get("sizes", []))
    train_job(snakemake, identity, device, model, names, objective, stream="pretrain")
