"""Single components trained alone (claim 6), and what their curves say of the cause of the drop (claim 7)."""

import math
from collections.abc import Iterator

from abrupt.claims.finding import NOT_YET, TOO_SHORT, Finding, SeedRun, onset
from abrupt.scores.drop import Drop

NO_PLATEAU = 0.1  # onset as a share of normal training's
PAPER_LATEST_POSITION_ONSET = 40_000


def components(runs: dict[int, SeedRun], scale: str, results: str) -> Iterator[Finding]:
    evidence = f"{results}/components/*/seed*/training.csv"

    def drops(name: str) -> dict[int, Drop]:
        """Of the runs of a component; empty if it is not among components.names."""
        return {seed: run.component_drops[name] for seed, run in runs.items() if name in run.component_drops}

    def relative_onset(name: str) -> dict[int, float]:
        """Without a drop, the least that the onset can be: the last step."""
        own = {seed: drop.onset if drop.found else drop.last_step for seed, drop in drops(name).items()}
        return {seed: step / (runs[seed].onset or math.nan) for seed, step in own.items()}

    for name, bound, criterion, holds in (
        ("token_embedding", NO_PLATEAU, f"<= {NO_PLATEAU:g} (no plateau)", lambda ratio: ratio <= NO_PLATEAU),
        ("mlp", NO_PLATEAU, f"<= {NO_PLATEAU:g} (no plateau)", lambda ratio: ratio <= NO_PLATEAU),
        ("attention", 1, f"> {NO_PLATEAU:g} (a plateau) and < 1 (earlier)", lambda ratio: NO_PLATEAU < ratio < 1),
        ("position_embedding", 1, "> 1 (later than normal training)", lambda ratio: ratio > 1),
    ):
        values = relative_onset(name)
        # A run that ended without a drop, and before the bound, may have dropped on either side of it.
        undecided = any(values[seed] <= bound for seed, drop in drops(name).items() if not drop.found)
        quantity = f"{name.replace('_', ' ')} alone: onset / normal onset"
        if any(not drop.found for drop in drops(name).values()):
            quantity += ", at least: a run has no drop in its steps"
        yield Finding(
            6,
            "fig08_components",
            quantity,
            "ratio",
            criterion,
            evidence,
            values,
            holds if values and not undecided else None,
            "no drop",
            TOO_SHORT if undecided else NOT_YET,
        )
    yield Finding(
        6,
        "fig08_components",
        "position embedding alone: onset",
        "updates",
        f"< {PAPER_LATEST_POSITION_ONSET} (paper scale)",
        evidence,
        {seed: onset(drop) for seed, drop in drops("position_embedding").items()},
        (lambda onset: onset < PAPER_LATEST_POSITION_ONSET) if scale == "paper" else None,
        "no drop",
    )
    untold = "earlier drop with the structure given"
    yield Finding(7, "fig08_components", untold, "", "-", "-", untested=NOT_YET)
