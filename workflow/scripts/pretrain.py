"""Train all parameters from scratch; write the loss curve and the weights at the listed steps."""

from abrupt.job import job_log, prepare_torch
from abrupt.models.bert import initialise
from abrupt.sampling import make_generator
from abrupt.storage.checkpoints import build_model
from abrupt.storage.identity import pretraining_run
from abrupt.task import Task
from abrupt.training.cost import refuse_if_slow, training_flops
from abrupt.training.loop import Schedule, Trainer
from abrupt.training.objectives import MatrixCompletion
from abrupt.training.resuming import RunState, environment_of, train

with job_log(snakemake.log[0]):
    params, seed = snakemake.params, int(snakemake.wildcards.seed)
    device = prepare_torch(params.device, params.pretrain["threads"])
    task = Task(**params.task)
    objective = MatrixCompletion.from_config(task, params.pretrain.get("sizes", []))
    schedule = Schedule.from_config(params.pretrain, params.pretrain["steps"])
    model = build_model(task, params.model)
    flops = schedule.steps * training_flops(model.config, schedule.batch_size, task.num_entries)
    refuse_if_slow(flops, device, snakemake.wildcards.scale, snakemake.config["allow_slow"])
    names = [name for name, _ in model.named_parameters()]
    stds = params.model["embedding_init_std"], params.model["weight_init_std"]
    initialise(model, names, make_generator(seed, "init"), *stds)
    train(
        Trainer(model, names, objective, schedule, seed, stream="pretrain", device=device),
        RunState(
            params.state,
            run=pretraining_run(params.task, params.model, params.pretrain, seed),
            environment=environment_of(device, params.pretrain["threads"], [*snakemake.input.library, __file__]),
        ),
        params.pretrain["checkpoint_steps"],
        save_every=snakemake.config["pretrain"]["save_every"],
        outputs=snakemake.output,
    )
