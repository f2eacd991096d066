"""Complete the held-out matrices by nuclear-norm minimisation: needs no model, so it runs beside pretraining."""

import torch
from tqdm import tqdm

from abrupt.analyses.completion import per_matrix_errors
from abrupt.analyses.nuclear_norm import complete_all
from abrupt.files import write_csv
from abrupt.job import job_log
from abrupt.task import Task, sample_batch

with job_log(snakemake.log[0]):
    params, seed = snakemake.params, int(snakemake.wildcards.seed)
    batch = sample_batch(Task(**params.task), params.matrices, seed, "analysis")
    completed = complete_all(
        batch.target.double().numpy(),
        batch.observed.numpy(),
        progress=lambda matrices: tqdm(matrices, unit="matrix", disable=None),
    )
    prediction = torch.from_numpy(completed).to(batch.target)
    write_csv(snakemake.output[0], per_matrix_errors(prediction, batch).assign(seed=seed))
