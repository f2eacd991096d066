"""Average the decoder's attention weights over held-out matrices, and write one HDF5 file for each checkpoint."""

from abrupt.job import job_log

with job_log(snakemake.log[0]):
    from abrupt.analyses import held_out
    from abrupt.job import prepare_torch
    from abrupt.storage.attention_files import write_attention
    from abrupt.storage.checkpoints import load_model
    from abrupt.storage.records import about_result, circumstances, start, write_records
    from abrupt.task import Task
    from abrupt.training.next_token import mean_attention

    identity = start(snakemake.params.identity, snakemake.input)
    device = prepare_torch(snakemake.config["device"], snakemake.threads)
    task, seed, options = Task(**identity["task"]), identity["seed"], identity["options"]
    batch = held_out(task, options["matrices"], seed).to(device)
    for step, weights, output in zip(options["steps"], snakemake.input.weights, snakemake.output, strict=True):
        maps = mean_attention(load_model(weights).to(device), task, batch).cpu().numpy()
        write_attention(
            output,
            {"random": {"attention_mean": maps}},
            {"attention_mean": ("layer", "head", "query", "key")},
            {"seed": seed, "step": step, "matrices": options["matrices"]},
            identity,
        )
    write_records(snakemake.output, about_result(identity, circumstances(device, snakemake.threads)))
