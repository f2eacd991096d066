"""Judge the claim about runs of their own, from the tables behind their figures: a tidy table and a page to read."""

import pandas as pd

from abrupt.claims.own_runs import introduction_of_runs, own_runs
from abrupt.claims.verdicts import claims_html, claims_markdown, claims_table
from abrupt.job import job_log
from abrupt.storage.files import write_atomically, write_csv
from abrupt.task import Task

with job_log(snakemake.log[0]):
    params = snakemake.params
    figures = {figure: pd.read_csv(snakemake.input[figure]) for figure in params.tasks}
    tasks = {figure: Task(**task) for figure, task in params.tasks.items()}
    table = claims_table(list(own_runs(figures, tasks, f"results/{params.scale}")))
    write_csv(snakemake.output.csv, table)
    about = introduction_of_runs(params.scale, Task(**params.task), params.seeds)
    write_atomically(snakemake.output.markdown, claims_markdown(table, about).encode())
    write_atomically(snakemake.output.html, claims_html(table, about).encode())
