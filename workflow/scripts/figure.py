"""Make the table behind one figure and draw the figure from that table alone."""

from abrupt.job import job_log

with job_log(snakemake.log[0]):
    from importlib import import_module

    from abrupt.figures import style
    from abrupt.storage.files import write_csv
    from abrupt.storage.records import about_result, circumstances, start, write_records
    from abrupt.task import Task

    identity = start(snakemake.params.identity, snakemake.input)
    figure, task = import_module(f"abrupt.figures.{snakemake.rule}"), Task(**identity["task"])
    table = figure.tidy(task, **{name: snakemake.input[name] for name in identity["inputs"]})
    write_csv(snakemake.output.csv, table)
    style.save(figure.draw(table, task), snakemake.output.pdf, snakemake.output.png)
    write_records(snakemake.output, about_result(identity, circumstances("cpu", snakemake.threads)))
