"""Re-initialise one component of the pretrained model and train it alone, the rest frozen."""

from abrupt.job import job_log, prepare_torch
from abrupt.models.bert import initialise
from abrupt.models.components import COMPONENTS, parameter_names
from abrupt.sampling import make_generator
from abrupt.storage.checkpoints import load_model
from abrupt.storage.identity import component_run, pretraining_run
from abrupt.task import Task
from abrupt.training.cost import refuse_if_slow, training_flops
from abrupt.training.loop import Schedule, Trainer
from abrupt.training.objectives import MatrixCompletion
from abrupt.training.resuming import RunState, environment_of, train

with job_log(snakemake.log[0]):
    params, seed, component = snakemake.params, int(snakemake.wildcards.seed), snakemake.wildcards.component
    device = prepare_torch(params.device, params.threads)
    task = Task(**params.task)
    schedule = Schedule.from_config(params.pretrain, params.steps)
    pretraining = pretraining_run(params.task, params.model, params.pretrain, seed)
    model = load_model(snakemake.input.weights, pretraining)
    flops = schedule.steps * training_flops(model.config, schedule.batch_size, task.num_entries)
    refuse_if_slow(flops, device, snakemake.wildcards.scale, snakemake.config["allow_slow"])
    names = parameter_names(model, COMPONENTS[component])
    stds = params.model["embedding_init_std"], params.model["weight_init_std"]
    initialise(model, names, make_generator(seed, f"components/{component}"), *stds)
    train(
        Trainer(model, names, MatrixCompletion(task), schedule, seed, stream="components", device=device),
        RunState(
            params.state,
            run=component_run(pretraining, component, params.steps),
            environment=environment_of(
                device, params.threads, [*snakemake.input.library, __file__], weights=snakemake.input.weights
            ),
        ),
        [params.steps],
        save_every=snakemake.config["pretrain"]["save_every"],
        outputs=snakemake.output,
    )
