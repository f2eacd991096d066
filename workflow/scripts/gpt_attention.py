"""Average the decoder's attention weights over held-out matrices, to one HDF5 file for each checkpoint."""

from abrupt.analyses import held_out
from abrupt.job import job_log, prepare_torch
from abrupt.models.gpt import build_model
from abrupt.storage.attention_files import write_attention
from abrupt.storage.checkpoints import read_tensors
from abrupt.storage.identity import pretraining_run
from abrupt.task import Task
from abrupt.training.next_token import mean_attention

with job_log(snakemake.log[0]):
    params, seed = snakemake.params, int(snakemake.wildcards.seed)
    device = prepare_torch(params.device, snakemake.threads)
    task = Task(**params.task)
    run = pretraining_run(params.task, params.model, params.pretrain, seed)
    model = build_model(task, params.model).to(device)
    batch = held_out(task, params.matrices, seed).to(device)
    steps = params.pretrain["checkpoint_steps"]
    for step, weights, output in zip(steps, snakemake.input.weights, snakemake.output, strict=True):
        model.load_state_dict(read_tensors(weights, run))
        write_attention(
            output,
            {"random": {"attention_mean": mean_attention(model, task, batch).cpu().numpy()}},
            {"attention_mean": ("layer", "head", "query", "key")},
            {"seed": seed, "step": step, "matrices": params.matrices},
            run,
        )
