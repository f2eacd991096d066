"""The paper's claims as data: what is measured, by which criterion, and whether it held in this run.

Criteria are the same for every seed and scale. `verdicts.introduction` says which were written before any run was
judged by them. They use levels computed for the task at hand (E[x^2], nuclear-norm minimisation on the same matrices,
uniform attention), so that they mean the same at every scale; the paper's own numbers are compared at paper scale
only.
"""

from collections.abc import Iterator

from abrupt.claims import baselines, components, heads, inside, loss
from abrupt.claims.finding import IN_OWN_RUNS, Finding, SeedRun

# Claim number -> statement, and where the paper makes it.
CLAIMS = {
    1: ("The loss sits on a plateau, then drops suddenly, at constant hyper-parameters.", "Figures 1 and 2"),
    2: (
        "On the plateau the model copies: observed entries are reproduced, masked ones predicted as the value "
        "that stands for MASK (0).",
        "Table 1",
    ),
    3: ("In the end matrices are completed with low error (about 4e-3 over all entries).", "final loss, about 4e-3"),
    4: (
        "The final model beats nuclear-norm minimisation, and its solutions have another nuclear norm: it does "
        "not implicitly minimise it.",
        "Figure 3, at the training mask probability",
    ),
    5: (
        "After the drop heads attend to the same row, the same column and observed entries; before it they do not.",
        "Figure 4",
    ),
    6: (
        "Trained alone, token embeddings and MLPs show no plateau; attention does, and drops earlier than normal "
        "training; position embeddings drop last.",
        "Figure 8",
    ),
    7: (
        "Learning the required structure through attention layers and embeddings causes the sudden drop.",
        "a hypothesis of the paper",
    ),
    8: (
        "Token-embedding norms are symmetric in the sign of the value, their first two principal components are "
        "magnitude and sign; position embeddings cluster by column.",
        "Figure 7",
    ),
    9: ("Linear probes read an entry's row best in the later layers.", "Figure 6"),
    10: ("With permuted position embeddings nothing is completed.", "the authors' code"),
    11: (
        "On matrices of another rank, or with another number of rows, the model stays close to nuclear-norm "
        "minimisation; with another number of columns it does not.",
        "Figure 19",
    ),
    12: (
        "The drop is there with Gaussian entries, larger matrices, a mixture of sizes and in a decoder that learns to "
        "copy, whose last layer goes from attending to SEP to attending to the entry that it copies; the narrowest "
        "model fails, a deeper one drops earlier.",
        "Figures 11 to 18",
    ),
}

PARTS = (
    loss.plateau_and_drop,
    loss.copying,
    loss.final_error,
    baselines.nuclear_norm,
    heads.attention,
    components.components,
    inside.embeddings,
    inside.probes,
    inside.positions,
    baselines.out_of_distribution,
)


def findings(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    """Every quantity of every claim for `runs`, seed -> tables; `results` is the folder of the evidence."""
    for part in PARTS:
        yield from part(runs, scale, results)
    evidence = f"{results}/claims_of_runs.csv"
    yield Finding(12, "fig17_larger", "drops in runs of their own", "", "-", evidence, untested=IN_OWN_RUNS)
