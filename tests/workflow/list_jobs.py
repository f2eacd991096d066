"""Print as JSON, for every job of every target: its rule, conda environment, code, resources.

    python list_jobs.py SNAKEFILE [KEY=VALUE ...]   # in an empty folder; the values are of the configuration

A process of its own: a Snakefile changes the Python path of the one that reads it.
"""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings


def list_jobs(snakefile: Path, config: dict[str, str]) -> list[dict]:
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        read = api.workflow(ResourceSettings(cores=1), ConfigSettings(config=config), snakefile=snakefile)
        rules = list(read._workflow.rules)
        targets = {rule.name for rule in rules if not rule.has_wildcards()}
        read.dag(DAGSettings(targets=targets)).execute_workflow(executor="dryrun")
        jobs = [
            {
                "rule": job.rule.name,
                "environment": job.conda_env_spec and path_of(job.conda_env_spec.file),
                "code": code(job),
                "resources": {name: job.resources.get(name) for name in ("mem_mb", "runtime", "gpu")},
            }
            for job in read._workflow.dag.jobs
            if job.rule.script
        ]
        unreached = {rule.name for rule in rules if rule.script} - {job["rule"] for job in jobs}
        if unreached:
            raise SystemExit(f"no target needs {', '.join(sorted(unreached))}")
        return jobs


def code(job) -> list[str]:
    """The job's script, and the modules that it imports by a name which it is given, relative to workflow/."""
    identity = json.loads(job.params.get("identity", "{}"))
    identities = [identity] if "code" in identity else identity.values()
    entries = {entry for one in identities for entry in one["code"]["entries"]}
    return sorted(entries | {f"scripts/{Path(job.rule.script).name}"})


def path_of(source) -> str:
    return str(Path(source.get_path_or_uri(secret_free=True)).resolve())


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        found = list_jobs(Path(sys.argv[1]), dict(pair.split("=", 1) for pair in sys.argv[2:]))
    print(json.dumps(found))
