"""Judge the paper's claims on this run: a tidy table and a page to read."""

import pandas as pd

from abrupt.claims import SeedRun, findings
from abrupt.claims.verdicts import claims_html, claims_markdown, claims_table, introduction
from abrupt.job import job_log
from abrupt.storage.files import write_atomically, write_csv
from abrupt.storage.identity import check_same_run, component_run, pretraining_run, read_run
from abrupt.task import Task

TABLES = (
    "head_scores",
    "completion",
    "baselines",
    "token_intervention",
    "token_embeddings",
    "position_embeddings",
    "probes",
    "permuted_positions",
)

with job_log(snakemake.log[0]):
    params, inputs = snakemake.params, snakemake.input
    runs, task = {}, Task(**params.task)
    for i, seed in enumerate(params.seeds):
        # Components vary slowest in the lists of inputs, seeds fastest.
        component_paths = inputs.components[i :: len(params.seeds)]
        pretraining = pretraining_run(params.task, params.model, params.pretrain, seed)
        check_same_run(inputs.weights[i], read_run(inputs.weights[i]), pretraining)
        for name, path in zip(params.components, inputs.component_weights[i :: len(params.seeds)], strict=True):
            check_same_run(path, read_run(path), component_run(pretraining, name, params.component_steps))
        runs[seed] = SeedRun(
            task,
            training=pd.read_csv(inputs.training[i]),
            components={name: pd.read_csv(path) for name, path in zip(params.components, component_paths, strict=True)},
            **{name: pd.read_csv(inputs[name][i]) for name in TABLES},
        )
    results = f"results/{params.scale}"
    table = claims_table(list(findings(runs, params.scale, results)))
    write_csv(snakemake.output.csv, table)
    about = introduction(params.scale, task, params.seeds)
    write_atomically(snakemake.output.markdown, claims_markdown(table, about).encode())
    write_atomically(snakemake.output.html, claims_html(table, about).encode())
