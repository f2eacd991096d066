"""The configuration and the helpers that rules share. Nothing here runs a job."""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod
from snakemake.utils import validate

WORKFLOW = Path(workflow.basedir) / "workflow"

# Scripts and this file import the library from workflow/, in whatever environment they run.
sys.path.insert(0, str(WORKFLOW))
os.environ.update(PYTHONPATH=os.pathsep.join([str(WORKFLOW), *filter(None, [os.getenv("PYTHONPATH")])]))

from abrupt.config import guard, machine, settings
from abrupt.config.results import ANALYSIS_JOBS, Results, analysis_options, is_current, settle_times
from abrupt.config.settings import merged
from abrupt.config.variants import variants
from abrupt.errors import InputError
from abrupt.storage.files import write_atomically
from abrupt.storage.identity import canonical_json

STORE = "results/.store"

# Figure -> what it is about, and what it reads, in the report's order.
CATALOGUE = yaml.safe_load((WORKFLOW / "figures.yaml").read_text(encoding="utf-8"))


def stop(message):
    """End with these lines alone: an exception would come out among Snakemake's own."""
    sys.exit(f"error: {message}")


def apply_layers():
    """Lay the scale's settings under those of --configfile and --config. Returns what is not as in the scale, and
    how many keys the scale sets."""
    options = workflow.config_settings
    try:
        layers, changes, set_by_scale = settings.layered(
            WORKFLOW, options.configfiles or [], options.config, options.config_args or [], "--report" in sys.argv
        )
    except InputError as error:
        stop(error)
    config.clear()
    config.update(layers)
    return changes, set_by_scale


def check_config():
    """Stop with one line for each thing that is wrong, before any job."""
    try:
        validate(config, "../schemas/config.schema.yaml", set_default=False)
        settings.check(config)
    except WorkflowError as error:
        if not hasattr(error.__context__, "absolute_path"):
            raise
        stop(settings.explain_schema_error(error.__context__))
    except InputError as error:
        stop(error)
    uses_conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    if uses_conda and config["device"] == "cuda" and config["conda_pytorch"] == "cpu":
        stop("config: device is cuda, but --sdm conda installs PyTorch for CPUs: set conda_pytorch: cuda")


def write_config():
    """The merged configuration, and what it changes of its scale's, beside the results."""
    try:
        for name, content in {"config": config, "changes": CHANGES}.items():
            write_atomically(f"{FOLDER}/{name}.yaml", yaml.safe_dump(content, sort_keys=False).encode())
    except InputError as error:
        stop(error)


def guard_trained_runs():
    """Stop, before anything is scheduled, if trained runs on the disk are not those that the configuration asks for."""
    if GUARDED:
        return
    GUARDED.append(True)
    try:
        runs = guard.different_runs(RESULTS)
        if config["accept_code"] != "none":
            runs = [run for run in runs if not run.code_alone]
        if runs:
            stop(guard.refusal(runs, RESULTS, sys.argv[1:]))
        for note in guard.notes(RESULTS):
            logger.info(note)
    except InputError as error:
        stop(error)


def changed(*patterns):
    """Input function that makes a job run again if one of its outputs is on the disk and not what it must be.

    Snakemake compares times, parameters and code as it remembers them; here each file says what it is of. A job whose
    outputs are not current gets a file as an input that is newer than they are, and the others get nothing.
    """

    def changed_of(wildcards):
        # Not for what runs nothing (--report, --summary, ...), nor in the jobs of a cluster.
        if workflow.execution_settings is None or not workflow.is_main_process:
            return []
        guard_trained_runs()
        paths = [pattern.format(**wildcards) for pattern in patterns]
        try:
            old = [path for path in paths if os.path.exists(path) and not is_current(path, RESULTS.digests[path])]
        except InputError as error:
            stop(error)
        if not old:
            return []
        for path in old:  # copied files may have any time
            if os.stat(path).st_mtime >= os.stat(mark()).st_mtime:
                os.utime(path, (STARTED - 60, STARTED - 60))
        return [mark()]

    return changed_of


def mark():
    """The file of this run of Snakemake that is newer than all outputs that are not what they must be.

    Snakemake takes a file with the content that it remembers for unchanged, so this has a new one every time.
    """
    if not MARKED:
        MARKED.append("results/.changed")
        write_atomically(MARKED[0], str(time.time_ns()).encode())
    return MARKED[0]


def identity(wildcards, output):
    """The parameter that says what a job's outputs are of."""
    return RESULTS.identity_text(output)


def identities(wildcards, output):
    """The same for a job whose outputs differ in it."""
    return RESULTS.identities_text(output)


def for_all(figures, claims, others):
    """Input function of the default target: the figures of the pretrained model and the claims.

    For a report it gives the results that there are, those of models of their own (`others`) included.
    """

    def for_all_of(wildcards):
        if workflow.execution_settings is not None:
            return [*figures, *claims]
        return [path for path in [*figures, *claims, *others] if os.path.exists(path)]

    return for_all_of


def at_scale(**values):
    """The value for the configured scale."""
    return values[config["scale"]]


def growing(value):
    """A resource that doubles at the first retry, and no further: what no node can hold would end the run."""
    return lambda wildcards, attempt: value * min(attempt, 2)


def figure_files(*targets):
    """All files of the figures that belong to these targets."""
    figures = [figure for figure, about in CATALOGUE.items() if about["target"] in targets]
    return expand(f"{FOLDER}/figures/{{figure}}.{{suffix}}", figure=figures, suffix=["pdf", "png", "csv"])


machine.prepare(workflow)
CHANGES, SET_BY_SCALE = apply_layers()
check_config()
FOLDER = f"results/{config['name']}"
STARTED = time.time()
GUARDED, MARKED = [], []  # filled when the guard has spoken, and when a job is found that must run again
try:
    RESULTS = Results(config, CATALOGUE)
except InputError as error:
    stop(error)
if workflow.is_main_process:
    with suppress(InputError):  # of a file that cannot be opened; the guard says so
        settle_times(RESULTS, STARTED)
    logger.info(
        f"Results: {FOLDER}/. Scale {config['scale']} sets {SET_BY_SCALE} keys of config.yaml, this call "
        f"{len(settings.flattened(CHANGES))} more; what they are merged to: {FOLDER}/config.yaml."
    )

# The conda environment of every rule that loads a model.
MODEL_ENV = {"cpu": "../../envs/train.yaml", "cuda": "../../envs/train-cuda.yaml"}[config["conda_pytorch"]]

# A job that may run on a GPU asks for one, so that a profile can keep two jobs off the same one.
GPU = 0 if config["device"] == "cpu" else 1
