"""Judge the claim about runs of their own from the tables behind their figures, and write a table and a page."""

from abrupt.job import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from abrupt.claims.own_runs import introduction_of_runs, own_runs
    from abrupt.claims.verdicts import claims_html, claims_markdown, claims_table
    from abrupt.storage.files import write_atomically, write_csv
    from abrupt.storage.records import about_result, circumstances, start, write_records
    from abrupt.task import Task

    identity = start(snakemake.params.identity, snakemake.input)
    task, options = Task(**identity["task"]), identity["options"]
    tasks = {figure: Task(**changed) for figure, changed in options["tasks"].items()}
    figures = {figure: pd.read_csv(snakemake.input[figure]) for figure in tasks}
    table = claims_table(list(own_runs(figures, tasks, options["results"])))
    write_csv(snakemake.output.csv, table)
    about = introduction_of_runs(options["scale"], task, options["seeds"])
    write_atomically(snakemake.output.markdown, claims_markdown(table, about).encode())
    write_atomically(snakemake.output.html, claims_html(table, about).encode())
    write_records(snakemake.output, about_result(identity, circumstances("cpu", snakemake.threads)))
