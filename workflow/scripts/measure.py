"""Run analyses (modules of abrupt.analyses) on the checkpoints of one seed."""

from abrupt.job import job_log

with job_log(snakemake.log[0]):
    from importlib import import_module

    from abrupt.job import prepare_torch
    from abrupt.storage.checkpoints import Checkpoints
    from abrupt.storage.files import write_csv
    from abrupt.storage.records import about_result, circumstances, start, write_records
    from abrupt.task import Task

    identities = start(snakemake.params.identity, snakemake.input)
    device = prepare_torch(snakemake.config["device"], snakemake.threads)
    for name, output in snakemake.output.items():
        identity = identities[name]
        options, seed = dict(identity["options"]), identity["seed"]
        models = Checkpoints(dict(zip(options.pop("steps"), snakemake.input.weights, strict=True)), device)
        table = import_module(f"abrupt.analyses.{name}").measure(models, Task(**identity["task"]), seed, **options)
        write_csv(output, table.assign(seed=seed))
        write_records([output], about_result(identity, circumstances(device, snakemake.threads)))
