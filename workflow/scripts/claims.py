"""Judge the paper's claims on this run, and write a tidy table and a page to read."""

from abrupt.job import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from abrupt.claims import SeedRun, findings
    from abrupt.claims.verdicts import claims_html, claims_markdown, claims_table, introduction
    from abrupt.storage.files import write_atomically, write_csv
    from abrupt.storage.records import about_result, circumstances, start, write_records
    from abrupt.task import Task

    identity, inputs = start(snakemake.params.identity, snakemake.input), snakemake.input
    task, options = Task(**identity["task"]), identity["options"]
    seeds, components = options["seeds"], options["components"]
    runs = {}
    for i, seed in enumerate(seeds):
        # The list of inputs has every seed of the first component, then every seed of the next.
        curves = dict(zip(components, inputs.components[i :: len(seeds)], strict=True))
        tables = {name: inputs[name][i] for name in identity["inputs"] if name != "components"}
        runs[seed] = SeedRun(
            task,
            components={name: pd.read_csv(path) for name, path in curves.items()},
            **{name: pd.read_csv(path) for name, path in tables.items()},
        )
    table = claims_table(list(findings(runs, options["scale"], options["results"])))
    write_csv(snakemake.output.csv, table)
    about = introduction(options["scale"], task, seeds)
    write_atomically(snakemake.output.markdown, claims_markdown(table, about).encode())
    write_atomically(snakemake.output.html, claims_html(table, about).encode())
    write_records(snakemake.output, about_result(identity, circumstances("cpu", snakemake.threads)))
