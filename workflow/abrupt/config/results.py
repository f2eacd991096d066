"""Where each result of a configuration lies, and what it is of.

`Results` knows every file that a rule can make: its path, and the identity that it must have. The rules ask it what to
schedule, jobs check by it what they read, and the guard compares it with what is on the disk.
"""

import os
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from abrupt.config.settings import merged
from abrupt.config.variants import families, gpt_changes, variants
from abrupt.storage.identity import Identity, canonical_json, curve_digest, digest, weights_digest
from abrupt.storage.records import WEIGHTS, code_identity, file_digest, read_record, record_digest

# Keys of the config's section `pretrain` that say how long a run is, what it leaves behind, or how it is run.
LENGTH_AND_CIRCUMSTANCES = ("steps", "checkpoint_steps", "save_every", "threads")

# Analyses of the pretrained model's checkpoints: one module of workflow/abrupt/analyses/ each.
# The interventions are at two steps: before the drop and at the end.
INTERVENTIONS = ("head_ablation", "activation_patching", "component_switching")
# These need no matrices.
EMBEDDING_ANALYSES = ("token_embeddings", "position_embeddings")
# Job -> analyses at the same steps. Short ones share a job: to import PyTorch takes as long as some of them.
ANALYSIS_JOBS = {
    "completion": ("completion",),
    "token_intervention": ("token_intervention",),
    "interventions": INTERVENTIONS,
    "probes": ("probes",),
    "embeddings": EMBEDDING_ANALYSES,
    "permuted_positions": ("permuted_positions",),
}
ANALYSES = tuple(chain.from_iterable(ANALYSIS_JOBS.values()))


def analysis_options(config: dict[str, Any], analysis: str) -> dict[str, Any]:
    """What the config says of an analysis, over what it says of all: `steps`, `matrices` and its own options."""
    analyses, last = config["analyses"], config["pretrain"]["steps"]
    if analysis in INTERVENTIONS:
        options = analyses["interventions"]
        scored = {"attention_matrices": config["attention"]["matrices"]} if analysis == "head_ablation" else {}
        return {"steps": [options["pre_shift_step"], last], "matrices": options["matrices"], **scored}
    steps = [last] if analysis == "completion" else analyses["steps"]
    matrices = {} if analysis in EMBEDDING_ANALYSES else {"matrices": analyses["matrices"]}
    return {"steps": steps, **matrices, **analyses.get(analysis, {})}


class Results:
    """The files of a configuration that is complete and valid, under the folder of its name.

    `identities` has the identity of each file by its path, of a training run for its curve and its weights; `digests`
    has what identifies the content of each file; `training_runs` has the identity of each training run by the path of
    its curve.
    """

    def __init__(self, config: dict[str, Any], catalogue: Mapping[str, dict[str, Any]]):
        self.config = config
        self.folder = f"results/{config['name']}"
        self.identities: dict[str, Identity] = {}
        self.digests: dict[str, str] = {}
        self.training_runs: dict[str, Identity] = {}
        self.lengths: dict[str, int] = {}
        self.decoder = merged(config, gpt_changes(config))
        for seed in config["seeds"]:
            self._add_pretraining(seed)
            self._add_components(seed)
            self._add_attention(seed)
            self._add_analyses(seed)
            self._add_runs(seed)
            self._add_decoder(seed)
        for figure, about in catalogue.items():
            self._add_figure(figure, about)
        self._add_claims()

    # Training runs

    def _identity(self, kind: str, script: str, config: dict[str, Any], seed: int) -> Identity:
        pretrain = {key: value for key, value in config["pretrain"].items() if key not in LENGTH_AND_CIRCUMSTANCES}
        about = {"kind": kind, "task": config["task"], "model": config["model"], "pretrain": pretrain, "seed": seed}
        return {**about, "code": code_identity(script)}

    def _add_run(self, folder: str, run: Identity, steps: int, checkpoint_steps: Iterable[int]) -> None:
        curve = f"{self.folder}/{folder}/training.csv"
        self.training_runs[curve], self.lengths[curve] = run, steps
        self._add(curve, run, curve_digest(run, steps))
        for step in checkpoint_steps:
            self._add(f"{self.folder}/{folder}/step{step}.safetensors", run, weights_digest(run, step))

    def _add(self, path: str, identity: Identity, content: str | None = None) -> None:
        self.identities[path], self.digests[path] = identity, content or digest(identity)

    def _add_pretraining(self, seed: int) -> None:
        run, pretrain = self._identity("pretraining", "scripts/pretrain.py", self.config, seed), self.config["pretrain"]
        self._add_run(f"pretrain/seed{seed}", run, pretrain["steps"], pretrain["checkpoint_steps"])

    def _add_components(self, seed: int) -> None:
        pretraining = self.training_runs[f"{self.folder}/pretrain/seed{seed}/training.csv"]
        steps, last = self.config["components"]["steps"], self.config["pretrain"]["steps"]
        for component in self.config["components"]["names"]:
            run = {
                **self._identity("component", "scripts/component_run.py", self.config, seed),
                "component": component,
                "pretraining": pretraining,
                "pretraining_steps": last,
                "inputs": {"weights": [weights_digest(pretraining, last)]},
            }
            self._add_run(f"components/{component}/seed{seed}", run, steps, [steps])

    def _add_runs(self, seed: int) -> None:
        for name, changes in variants(self.config).items():
            changed = merged(self.config, changes)
            steps = changed["pretrain"]["steps"]
            run = self._identity("pretraining", "scripts/pretrain.py", changed, seed)
            self._add_run(f"runs/{name}/seed{seed}", run, steps, [steps])

    def _add_decoder(self, seed: int) -> None:
        pretrain = self.decoder["pretrain"]
        run = self._identity("decoder", "scripts/gpt_training.py", self.decoder, seed)
        self._add_run(f"gpt/seed{seed}", run, pretrain["steps"], pretrain["checkpoint_steps"])
        steps = pretrain["checkpoint_steps"]
        inputs = {"weights": [f"{self.folder}/gpt/seed{seed}/step{step}.safetensors" for step in steps]}
        options = {"steps": steps, "matrices": self.config["gpt"]["matrices"]}
        maps = self._derived(["scripts/gpt_attention.py"], self.decoder["task"], seed, options, inputs)
        for step in steps:
            self._add(f"{self.folder}/gpt/seed{seed}/attention/step{step}.h5", maps)

    # What is made from them

    def _derived(
        self,
        code: list[str],
        task: dict[str, Any],
        seed: int | None,
        options: dict[str, Any],
        inputs: Mapping[str, str | list[str]],
    ) -> Identity:
        of_inputs = {
            name: [self.digests[path] for path in ([paths] if isinstance(paths, str) else paths)]
            for name, paths in inputs.items()
        }
        about = {"kind": "derived", "task": task, "seed": seed, "options": options, "inputs": of_inputs}
        return {**about, "code": code_identity(*code)}

    def _weights(self, seed: int, steps: Iterable[int]) -> list[str]:
        return [f"{self.folder}/pretrain/seed{seed}/step{step}.safetensors" for step in steps]

    def _add_attention(self, seed: int) -> None:
        options, task = self.config["attention"], self.config["task"]
        inputs = {"weights": self._weights(seed, options["steps"])}
        maps = self._derived(["scripts/attention.py"], task, seed, options, inputs)
        paths = [f"{self.folder}/attention/seed{seed}/step{step}.h5" for step in options["steps"]]
        for path in paths:
            self._add(path, maps)
        scores = self._derived(["scripts/head_scores.py"], task, seed, {}, {"attention": paths})
        self._add(f"{self.folder}/attention/seed{seed}/head_scores.csv", scores)

    def _add_analyses(self, seed: int) -> None:
        task = self.config["task"]
        for analysis in ANALYSES:
            options = analysis_options(self.config, analysis)
            inputs = {"weights": self._weights(seed, options["steps"])}
            code = ["scripts/measure.py", f"abrupt.analyses.{analysis}"]
            table = self._derived(code, task, seed, options, inputs)
            self._add(f"{self.folder}/analyses/{analysis}/seed{seed}.csv", table)
        options = {
            "matrices": analysis_options(self.config, "completion")["matrices"],
            "shifts": self.config["analyses"]["completion"]["shifts"],
            "regularisation": self.config["analyses"]["baselines"]["regularisation"],
        }
        table = self._derived(["scripts/baselines.py"], task, seed, options, {})
        self._add(f"{self.folder}/analyses/baselines/seed{seed}.csv", table)

    def files(self, name: str) -> list[str]:
        """The files that a figure or the claims call `name`, in the order of the seeds: training, components,
        head_scores, attention, gpt_training, gpt_attention, an analysis, or a family of runs. Maps are of the first
        seed alone."""
        seeds, first = self.config["seeds"], self.config["seeds"][0]
        if name == "attention":
            return [f"{self.folder}/attention/seed{first}/step{step}.h5" for step in self.config["attention"]["steps"]]
        if name == "gpt_attention":
            steps = self.decoder["pretrain"]["checkpoint_steps"]
            return [f"{self.folder}/gpt/seed{first}/attention/step{step}.h5" for step in steps]
        folders = {
            "training": ["pretrain"],
            "components": [f"components/{component}" for component in self.config["components"]["names"]],
            "gpt_training": ["gpt"],
            **{family: [f"runs/{run}" for run in members] for family, members in families(self.config).items()},
        }
        if name in folders:
            return [f"{self.folder}/{folder}/seed{seed}/training.csv" for folder in folders[name] for seed in seeds]
        if name == "head_scores":
            return [f"{self.folder}/attention/seed{seed}/head_scores.csv" for seed in seeds]
        return [f"{self.folder}/analyses/{name}/seed{seed}.csv" for seed in seeds]

    def figure_task(self, about: dict[str, Any]) -> dict[str, Any]:
        """The task that a figure is about; members of a family of runs differ in nothing but the matrices' size."""
        if about["target"] == "gpt":
            return self.decoder["task"]
        if about["target"] in ("mixture", "larger", "gaussian"):
            return merged(self.config, next(iter(families(self.config)[about["target"]].values())))["task"]
        return self.config["task"]

    def figure_inputs(self, about: dict[str, Any]) -> dict[str, str | list[str]]:
        """Name -> files of each input of a figure."""
        return {name: self._chosen(source) for name, source in about["inputs"].items()}

    def _chosen(self, source: str) -> str | list[str]:
        """The files called `source`, or the one file that `first <name>` or `last <name>` means."""
        which, _, name = source.rpartition(" ")
        files = self.files(name)
        return files[{"first": 0, "last": -1}[which]] if which else files

    def _add_figure(self, figure: str, about: dict[str, Any]) -> None:
        code = ["scripts/figure.py", f"abrupt.figures.{figure}"]
        identity = self._derived(code, self.figure_task(about), None, {}, self.figure_inputs(about))
        for suffix in ("pdf", "png", "csv"):
            self._add(f"{self.folder}/figures/{figure}.{suffix}", identity)

    CLAIM_INPUTS = (
        "training",
        "components",
        "head_scores",
        "completion",
        "baselines",
        "token_intervention",
        "token_embeddings",
        "position_embeddings",
        "probes",
        "permuted_positions",
    )
    RUN_CLAIM_FIGURES = (
        "fig11_gpt_loss",
        "fig12_gpt_attention",
        "fig13_width",
        "fig14_depth",
        "fig16_mixture",
        "fig17_larger",
        "fig18_gaussian",
    )

    def _add_claims(self) -> None:
        about = {"scale": self.config["scale"], "results": self.folder, "seeds": self.config["seeds"]}
        options = {**about, "components": self.config["components"]["names"]}
        inputs = {name: self.files(name) for name in self.CLAIM_INPUTS}
        claims = self._derived(["scripts/claims.py"], self.config["task"], None, options, inputs)
        tables = {figure: f"{self.folder}/figures/{figure}.csv" for figure in self.RUN_CLAIM_FIGURES}
        options = {**about, "tasks": {figure: self.identities[path]["task"] for figure, path in tables.items()}}
        claims_of_runs = self._derived(["scripts/claims_of_runs.py"], self.config["task"], None, options, tables)
        for suffix in ("csv", "md", "html"):
            self._add(f"{self.folder}/claims.{suffix}", claims)
            self._add(f"{self.folder}/claims_of_runs.{suffix}", claims_of_runs)

    def identity_text(self, output: Any) -> str:
        """The identity of the outputs of a job, as JSON: its parameter `identity`."""
        return canonical_json(self.identities[str(output[0])])

    def identities_text(self, output: Any) -> str:
        """The same for a job whose outputs differ in it: by the names of the outputs."""
        return canonical_json({name: self.identities[str(path)] for name, path in output.items()})


def is_current(path: str | Path, wanted: str) -> bool:
    """Whether the file at `path` is what the digest `wanted` stands for, by its record, and is the file that the record
    describes; of weights, which say it themselves, the content is checked when they are read."""
    record = read_record(path)
    if record is None or record_digest(record) != wanted:
        return False
    path = Path(path)
    return path.suffix == WEIGHTS or record["files"].get(path.name) == file_digest(path)


def settle_times(results: Results, now: float) -> None:
    """Give all current files one time if one of them is older than a file that it was made from, or is of the future.

    Snakemake makes a file again that is older than its inputs. Files that were copied, moved or unpacked may have any
    times, and since each says what it is of, their times mean nothing.
    """
    times = {path: os.stat(path).st_mtime for path, wanted in results.digests.items() if is_current(path, wanted)}
    newest: dict[str, float] = {}  # by what identifies the content
    for path, time in times.items():
        newest[results.digests[path]] = max(time, newest.get(results.digests[path], 0))
    for path, time in times.items():
        sources = chain.from_iterable(results.identities[path].get("inputs", {}).values())
        if time > now or any(newest.get(source, 0) > time for source in sources):
            break
    else:
        return
    # Snakemake takes the benchmarks of jobs for results of theirs.
    for path in [*times, *Path(results.folder, "benchmarks").rglob("*.tsv")]:
        os.utime(path, (now, now))
