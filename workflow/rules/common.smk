"""The configuration and the helpers that rules share. Nothing here runs a job."""

import csv
import os
import shutil
import sys
from itertools import chain
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

from abrupt.config import settings
from abrupt.storage import sources
from abrupt.errors import InputError
from abrupt.storage.files import write_atomically
from abrupt.config.variants import families, gpt_changes, variants

# Analyses of the pretrained model's checkpoints: one module of workflow/abrupt/analyses/ each.
# The interventions are at two steps: before the drop and at the end.
INTERVENTIONS = ["head_ablation", "activation_patching", "component_switching"]
# These need no matrices.
OF_EMBEDDINGS = ["token_embeddings", "position_embeddings"]
# Job -> analyses at the same steps. Short ones share a job: to import PyTorch takes as long as some of them.
ANALYSIS_JOBS = {
    "completion": ["completion"],
    "token_intervention": ["token_intervention"],
    "interventions": INTERVENTIONS,
    "probes": ["probes"],
    "embeddings": OF_EMBEDDINGS,
    "permuted_positions": ["permuted_positions"],
}

# Figure -> what it is about, in the report's order.
CATALOGUE = yaml.safe_load((WORKFLOW / "figures.yaml").read_text())

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
    uses_conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    if uses_conda and config["device"] == "cuda" and config["conda_pytorch"] == "cpu":
        stop("config: device is cuda, but --sdm conda installs PyTorch for CPUs: set conda_pytorch: cuda")


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


def write_costs():
    """What this run's jobs took, of the last attempt of each, if it knows the jobs of `figures`: the minutes of all jobs
    behind each figure, and time and memory of each rule."""
    dag, minutes, of_rules = workflow.dag, {}, {}
    for job in dag.jobs:
        if job.rule.name in FIGURES:
            paths = {str(behind.benchmark) for behind in (job, *dag.bfs(dag.dependencies, job)) if behind.benchmark}
            seconds = sum(float(row["s"]) for path in paths for row in benchmark_rows(path))
            minutes[job.rule.name] = seconds / 60
        if job.benchmark:
            of_rules.setdefault(job.rule.name, []).extend(benchmark_rows(job.benchmark))
    if minutes.keys() >= set(figures_of("figures")):
        write_table(
            "figure_costs.tsv",
            "figure\tscale\tjob_minutes",
            [f"{figure}\t{config['scale']}\t{minutes[figure]:.1f}" for figure in FIGURES if figure in minutes],
        )
        write_table("rule_costs.tsv", "rule\tjobs\tseconds\tpeak_rss_mb", map(cost_line, of_rules, of_rules.values()))


def cost_line(rule, rows):
    """'rule, jobs, wall seconds of them all, peak resident memory of the largest'; '-': too short to be measured."""
    seconds = sum(float(row["s"]) for row in rows)
    peaks = [float(row["max_rss"]) for row in rows if row["max_rss"] not in ("-", "NA")]
    peak = f"{max(peaks):.0f}" if peaks else "-"
    return f"{rule}\t{len(rows)}\t{seconds:.1f}\t{peak}"


def write_table(name, header, lines):
    """A table of tab-separated lines among the benchmarks."""
    path = Path("results") / config["scale"] / "benchmarks" / name
    write_atomically(path, "".join(f"{line}\n" for line in [header, *lines]).encode())


def benchmark_rows(path):
    """A benchmark file's rows as dicts; none if it is gone."""
    return list(csv.DictReader(Path(path).open(), delimiter="\t")) if Path(path).exists() else []


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


def of_analysis(analysis):
    """What config.analyses says of this analysis, over what it says of all: `steps`, `matrices`, options; no more than
    it needs."""
    if analysis in INTERVENTIONS:
        options = config["analyses"]["interventions"]
        steps = [options["pre_shift_step"], config["pretrain"]["steps"]]
        scored = {"attention_matrices": config["attention"]["matrices"]} if analysis == "head_ablation" else {}
        return {"steps": steps, "matrices": options["matrices"], **scored}
    steps = [config["pretrain"]["steps"]] if analysis == "completion" else config["analyses"]["steps"]
    matrices = {} if analysis in OF_EMBEDDINGS else {"matrices": config["analyses"]["matrices"]}
    return {"steps": steps, **matrices, **config["analyses"].get(analysis, {})}


def steps_of(analyses):
    """The steps that these analyses, of one job, have in common."""
    (steps,) = {tuple(of_analysis(analysis)["steps"]) for analysis in analyses}
    return steps


def growing(value):
    """A resource that doubles at the first retry, and no further: what no node can hold would end the run."""
    return lambda wildcards, attempt: value * min(attempt, 2)


def training_params(of=config):
    """The pretrain section of a config without what no result depends on."""
    return {key: value for key, value in of["pretrain"].items() if key != "save_every"}


def training_of(family):
    """The training curves of all runs of a family."""
    members = families(config)[family]
    return expand("results/{scale}/runs/{run}/seed{seed}/training.csv", scale=SCALE, run=members, seed=SEEDS)


def figures_of(*targets):
    """The figures that belong to these targets, in the report's order."""
    return [figure for figure, about in CATALOGUE.items() if about["target"] in targets]


def figure_files(*targets):
    """All their files."""
    return expand(
        f"results/{SCALE}/figures/{{figure}}.{{suffix}}", figure=figures_of(*targets), suffix=["pdf", "png", "csv"]
    )


apply_scale()
check_config()

# The conda environment of every rule that loads a model.
MODEL_ENV = {"cpu": "../../envs/train.yaml", "cuda": "../../envs/train-cuda.yaml"}[config["conda_pytorch"]]

# A job that may run on a GPU asks for one, so that a profile can keep two jobs off the same one.
GPU = 0 if config["device"] == "cpu" else 1
