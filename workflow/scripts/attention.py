"""Extract attention maps and head shares of each checkpoint under each mask pattern, one HDF5 file a checkpoint."""

from abrupt.job import job_log

with job_log(snakemake.log[0]):
    from abrupt.analyses.attention import DIMENSIONS, KEY_GROUPS, QUERY_GROUPS, extract, mask_patterns
    from abrupt.job import prepare_torch
    from abrupt.storage.attention_files import write_attention
    from abrupt.storage.checkpoints import load_model
    from abrupt.storage.records import about_result, circumstances, start, write_records
    from abrupt.task import Task

    identity = start(snakemake.params.identity, snakemake.input)
    device = prepare_torch(snakemake.config["device"], snakemake.threads)
    task, seed, options = Task(**identity["task"]), identity["seed"], identity["options"]
    batches = {name: batch.to(device) for name, batch in mask_patterns(task, options["matrices"], seed).items()}
    attributes = {
        "seed": seed,
        "matrices": options["matrices"],
        "query_groups": QUERY_GROUPS,
        "key_groups": KEY_GROUPS,
    }
    for step, weights, output in zip(options["steps"], snakemake.input.weights, snakemake.output, strict=True):
        model = load_model(weights).to(device)
        arrays = {name: extract(model, task, batch, options["samples"])._asdict() for name, batch in batches.items()}
        write_attention(output, arrays, DIMENSIONS, {**attributes, "step": step}, identity)
    write_records(snakemake.output, about_result(identity, circumstances(device, snakemake.threads)))
