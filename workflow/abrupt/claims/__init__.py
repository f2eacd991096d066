"""The paper's claims as data: what is measured, by which criterion, and whether it held in this run.

A claim is described in one place: a `Claim` in a module here, listed below. Criteria are the same for every seed and
scale; the pages say which were written before any run was judged by them. They use levels computed for the task at hand
(E[x^2], nuclear-norm minimisation on the same matrices, uniform attention), so that they mean the same at every scale;
the paper's own errors and onsets are compared at paper scale only.
"""

from collections.abc import Iterator
from dataclasses import replace

from abrupt.claims import baselines, components, heads, inside, loss, own_runs
from abrupt.claims.finding import Claim, Finding, Part
from abrupt.claims.seed_run import SeedRun

IN_OWN_RUNS = "tested by `snakemake paper_figures`"

# Those that are judged on the runs of `SeedRun`.
MAIN_CLAIMS = (
    loss.PLATEAU_AND_DROP,
    loss.COPYING,
    loss.FINAL_ERROR,
    baselines.NUCLEAR_NORM,
    heads.ATTENTION,
    components.COMPONENTS,
    components.CAUSE,
    inside.EMBEDDINGS,
    inside.PROBES,
    inside.POSITIONS,
    baselines.OUT_OF_DISTRIBUTION,
)
CLAIMS: tuple[Claim, ...] = (*MAIN_CLAIMS, own_runs.OWN_RUNS)
# What the page of the main runs says of the last claim.
ELSEWHERE = replace(
    own_runs.OWN_RUNS,
    parts=(Part("fig17_larger", "drops in runs of their own", "", "claims_of_runs.csv", None, unjudged=IN_OWN_RUNS),),
)


def findings(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    """Every part of every claim for `runs`, seed -> tables; `results` is the folder of the evidence."""
    for claim in (*MAIN_CLAIMS, ELSEWHERE):
        for part in claim.parts:
            yield Finding(claim, part, part.values(runs), scale, results)


def claims_by_figure() -> dict[str, list[int]]:
    """Figure -> numbers of the claims with a part that is seen in it."""
    found: dict[str, set[int]] = {}
    for claim in CLAIMS:
        for part in claim.parts:
            found.setdefault(part.figure, set()).add(claim.number)
    return {figure: sorted(numbers) for figure, numbers in found.items()}
