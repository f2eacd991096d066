"""Re-initialise one component of the pretrained model and train it alone. The rest is frozen."""

from abrupt.job import job_log

with job_log(snakemake.log[0]):
    from abrupt.job import prepare_torch
    from abrupt.models.bert import initialise
    from abrupt.models.components import COMPONENTS, parameter_names
    from abrupt.sampling import make_generator
    from abrupt.storage.checkpoints import load_model
    from abrupt.storage.records import start
    from abrupt.task import Task
    from abrupt.training.job import train_job
    from abrupt.training.objectives import MatrixCompletion

    identity = start(snakemake.params.identity, snakemake.input)
    device = prepare_torch(snakemake.config["device"], snakemake.params.threads)
    component, model = identity["component"], load_model(snakemake.input.weights)
    names = parameter_names(model, COMPONENTS[component])
    stds = identity["model"]["embedding_init_std"], identity["model"]["weight_init_std"]
    initialise(model, names, make_generator(identity["seed"], f"components/{component}"), *stds)
    objective = MatrixCompletion(Task(**identity["task"]))
    train_job(snakemake, identity, device, model, names, objective, stream="components")
