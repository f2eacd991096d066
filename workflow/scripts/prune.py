"""List, or remove, the training runs in the store that no results were made from. Each has a line with its size."""

from abrupt.job import job_log

with job_log(snakemake.log[0]):
    from pathlib import Path

    from abrupt.storage.store import remove, unused

    removing, total = snakemake.config["prune"] == "remove", 0
    for entry in unused(Path(snakemake.params.store)):
        results = ", ".join((entry.about or {}).get("results", [])) or "a run that does not say what it is of"
        total += entry.size
        verb = "removed" if removing else "would be removed"
        line = f"{entry.folder}: {verb}, {entry.size / 1e6:.1f} MB, {entry.step} steps of {results}"
        if removing:
            try:
                remove(entry)
            except OSError as error:
                line = f"{entry.folder}: could not be removed ({error.strerror})"
        print(line)
    print(f"{total / 1e6:.1f} MB in all" + ("" if removing else "; to remove them, add --config prune=remove"))
