"""The configuration and the helpers that rules share. Nothing here runs a job."""

import os
import shutil
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import validate

WORKFLOW = Path(workflow.basedir) / "workflow"

# Scripts and this file import the library from workflow/, in whatever environment they run.
sys.path.insert(0, str(WORKFLOW))
os.environ.update(PYTHONPATH=os.pathsep.join([str(WORKFLOW), *filter(None, [os.getenv("PYTHONPATH")])]))

from abrupt import settings, sources
from abrupt.errors import InputError
from abrupt.files import write_atomically

# Analyses of the pretrained model's checkpoints: one module of workflow/abrupt/analyses/ each.
MODEL_ANALYSES = ["completion", "token_intervention"]

SCALES = sorted(path.stem for path in WORKFLOW.glob("scales/*.yaml"))


def stop(message):
    """End with these lines alone: an exception would come out among Snakemake's own."""
    sys.exit(f"error: {message}")


def apply_scale():
    """Lay the scale's settings under those of --configfile and --config, and say what it changed."""
    scale = config.get("scale")
    if scale not in SCALES:
        stop(f"config: scale: {scale!r} is not one of {', '.join(SCALES)}: choose one of them")
    options = workflow.config_settings
    # Snakemake reads nested values of --config as text.
    given = settings.merged(options.overwrite_config, settings.retyped(options.config))
    of_scale = yaml.safe_load((WORKFLOW / "scales" / f"{scale}.yaml").read_text()) or {}
    config.update(settings.merged(settings.merged(config, of_scale), given))
    if workflow.is_main_process:
        overridden = sorted(settings.flattened(of_scale).keys() - settings.flattened(given).keys())
        logger.info(f"Scale {scale} overrides {', '.join(overridden) if overridden else 'nothing in config.yaml'}.")


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


def refuse_other_scale(wildcards):
    """Stop instead of giving inputs: results of one scale never bear another's name."""
    stop(
        f"results/{wildcards.other_scale}/{wildcards.path} belongs to scale {wildcards.other_scale}, but the "
        f"configured scale is {config['scale']}: add --config scale={wildcards.other_scale}"
    )


def write_config():
    """The merged configuration, beside the results."""
    path = Path("results") / config["scale"] / "config.yaml"
    try:
        write_atomically(path, yaml.safe_dump(config, sort_keys=False).encode())
    except InputError as error:
        stop(error)


def remove_finished_states():
    """Remove the resumable states of the runs that this workflow run relied on: their results are in place.

    Others stay, finished or not: Snakemake may yet throw their results away.
    """
    for job in workflow.dag.jobs:
        if "state" in job.params.keys():
            for marker in list(Path(job.params.state).glob("*/finished.json")):
                shutil.rmtree(marker.parent)


def library(*paths):
    """Library files that these files under workflow/ import: an edit to one reruns its users."""
    files = set()
    for path in paths:
        own = {WORKFLOW / path} if path.startswith("abrupt/") else set()
        files |= sources.imported_files(WORKFLOW / path) | own
    return sorted(os.path.relpath(file) for file in files)


def at_scale(**values):
    """The value for the configured scale."""
    return values[config["scale"]]


def training_params():
    """The config's pretrain section without what no result depends on."""
    return {key: value for key, value in config["pretrain"].items() if key != "save_every"}


apply_scale()
check_config()

# A job that may run on a GPU asks for one, so that a profile can keep two jobs off the same one.
GPU = 0 if config["device"] == "cpu" else 1
