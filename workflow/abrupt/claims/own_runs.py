"""Runs of their own: other shapes and matrices, and a decoder (claim 12), from the tables behind their figures."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from abrupt.claims.finding import (
    Claim,
    Criterion,
    Finding,
    NotDecided,
    Part,
    Value,
    near_one,
    no_drop,
    onset,
    ratio,
)
from abrupt.claims.seed_run import PAPER_STEPS
from abrupt.claims.verdicts import HOW_JUDGED
from abrupt.scores.drop import ABRUPT_FIRST_FALL, Drop, detect_drop, find_copying
from abrupt.scores.heads import ATTENDED
from abrupt.task import Task

# A model fails if it is still on the plateau after this many times as long as another one needed to leave it. The paper
# trains for 50 000 steps, and an independent replication of it leaves the plateau near step 14 300.
FAILS_AFTER = 3
PAPER_DECODER_STEPS = 100_000
COPIED = 0.95  # accuracy at observed entries
IDENTITY = 0.5  # mean attention weight on the entry to predict


@dataclass(frozen=True)
class OwnRuns:
    """One seed's runs: the tables behind the figures that have this seed, and the tasks of all figures."""

    tables: dict[str, pd.DataFrame]
    tasks: dict[str, Task]

    def drops(self, figure: str) -> dict[Any, Drop]:
        """Member of the family, in order -> the drop of its curve. A family of one has no column `member`."""
        table = self.tables[figure]
        if "member" not in table:
            table = table.assign(member=0)
        plateau = self.tasks[figure].entry_variance
        return {
            member: detect_drop(curve["step"], curve["mse_masked"], plateau)
            for member, curve in table.groupby("member")
        }

    @cached_property
    def copying(self) -> Drop:
        """The drop of the decoder's cross-entropy at observed entries."""
        return find_copying(self.tables["fig11_gpt_loss"])

    def copied(self) -> Drop:
        """The same; NotDecided if there is none."""
        if not self.copying.found:
            raise NotDecided(no_drop(self.copying))
        return self.copying


def earliest(onsets: list[Value]) -> Value:
    notes = dict.fromkeys(value.note for value in onsets if value.note)
    return Value(min(value.low for value in onsets), min(value.high for value in onsets), ", ".join(notes))


def narrowest_onset(run: OwnRuns) -> Value:
    """The onset in the narrowest model over the earliest one in a wider model."""
    narrowest, *wider = map(onset, run.drops("fig13_width").values())
    if not wider:
        raise NotDecided("a single width")
    return ratio(narrowest, earliest(wider))


def deeper_onset(run: OwnRuns) -> Value:
    """The onset with the second depth over that with the first."""
    depths = list(map(onset, run.drops("fig14_depth").values()))
    if len(depths) < 2:
        raise NotDecided("a single depth")
    return ratio(depths[1], depths[0])


def without_drop(figure: str, quantity: str) -> Part:
    """How many runs of a family have no drop. One that is shorter than the paper's may have it later."""

    def measure(run: OwnRuns) -> Value:
        censored = [drop for drop in run.drops(figure).values() if not drop.found]
        certain = sum(drop.onset_at_least >= PAPER_STEPS for drop in censored)
        return Value(certain, len(censored), ", ".join(dict.fromkeys(map(no_drop, censored))))

    return Part(figure, quantity, "runs", f"figures/{figure}.csv", measure, Criterion(most=0))


def plateau_level(curve: pd.DataFrame, drop: Drop) -> float:
    """Mean cross-entropy at observed entries over the second half of the plateau, over the entropy of the marginal law;
    NotDecided if nothing was logged there."""
    late = curve["step"].between(drop.plateau_end / 2, drop.plateau_end)
    if not late.any():
        raise NotDecided("no plateau")
    return curve.loc[late, "cross_entropy_observed"].mean() / curve["marginal_entropy"].max()


def final_accuracy(run: OwnRuns) -> float:
    run.copied()
    return run.tables["fig11_gpt_loss"].sort_values("step")["accuracy_observed"].iloc[-1]


def strongest_weights(table: pd.DataFrame) -> dict[str, float]:
    """The strongest head's mean attention weight, over the queries that predict X, on the entry to predict
    (`predicted`) and on SEP (`sep`), this one over that of uniform attention; `table` is of one layer and step, as in
    the figure."""
    entries = table["query"].max()
    uniform = (1 / (entries + table["query"])).mean()
    predicted, sep = (table[table["key"] == key] for key in (table["query"], entries + 1))
    strongest = [part.groupby("head")["attention"].mean().max() for part in (predicted, sep)]
    return {"predicted": strongest[0], "sep": strongest[1] / uniform}


def last_layer(run: OwnRuns, before: bool) -> dict[str, float]:
    """The weights of the decoder's last layer, at the last step shown well before copying or at the last step of all;
    NotDecided if there is none, or if that is not after the drop."""
    table, drop = run.tables["fig12_gpt_attention"], run.copying
    steps = [step for step in table["step"].unique() if not before or drop.is_before(step)]
    if not steps:
        raise NotDecided("no step shown well before copying")
    if not before and max(steps) < run.copied().completion:
        raise NotDecided("no step shown after the drop")
    return strongest_weights(table[(table["layer"] == table["layer"].max()) & (table["step"] == max(steps))])


def decoder(quantity: str, unit: str, measure: Any, criterion: Criterion) -> Part:
    return Part("fig11_gpt_loss", quantity, unit, "figures/fig11_gpt_loss.csv", measure, criterion)


def decoder_attention(quantity: str, unit: str, measure: Any, criterion: Criterion) -> Part:
    quantity = f"last layer of the decoder, strongest head: {quantity}"
    return Part("fig12_gpt_attention", quantity, unit, "figures/fig12_gpt_attention.csv", measure, criterion)


OWN_RUNS = Claim(
    12,
    "The drop is there with Gaussian entries, larger matrices, a mixture of sizes and in a decoder that learns to "
    "copy, whose last layer goes from attending to SEP to attending to the entry that it copies; the narrowest model "
    "fails, a deeper one drops earlier.",
    "Figures 11 to 18",
    (
        Part(
            "fig13_width",
            "onset in the narrowest model / earliest onset in a wider one",
            "ratio",
            "figures/fig13_width.csv",
            narrowest_onset,
            Criterion(least=FAILS_AFTER, note="fails"),
        ),
        Part(
            "fig14_depth",
            "onset with the second depth / with the first",
            "ratio",
            "figures/fig14_depth.csv",
            deeper_onset,
            Criterion(most=1, strict=True),
        ),
        without_drop("fig16_mixture", "sizes of the mixture without a drop"),
        without_drop("fig17_larger", "larger sizes without a drop"),
        without_drop("fig18_gaussian", "runs with Gaussian entries without a drop"),
        decoder(
            "onset of copying in the decoder",
            "updates",
            lambda run: onset(run.copying),
            Criterion(most=PAPER_DECODER_STEPS, strict=True, note="the length of the paper's run"),
        ),
        decoder(
            "length of the decoder's first fall / length of its plateau",
            "ratio",
            lambda run: run.copied().first_fall,
            Criterion(most=ABRUPT_FIRST_FALL),
        ),
        # Whether the level that the onset is measured against is that of the plateau.
        decoder(
            "cross-entropy at observed entries before the onset / entropy of the entries' frequencies",
            "ratio",
            lambda run: plateau_level(run.tables["fig11_gpt_loss"], run.copying),
            near_one(),
        ),
        decoder("accuracy of copying observed entries, last step", "ratio", final_accuracy, Criterion(least=COPIED)),
        decoder_attention(
            "mean weight on SEP / uniform attention, before copying",
            "ratio",
            lambda run: last_layer(run, before=True)["sep"],
            Criterion(least=ATTENDED),
        ),
        decoder_attention(
            "mean weight on the entry to predict (1: identity), last step",
            "weight",
            lambda run: last_layer(run, before=False)["predicted"],
            Criterion(least=IDENTITY),
        ),
    ),
)


def own_runs(figures: dict[str, pd.DataFrame], tasks: dict[str, Task], results: str) -> Iterator[Finding]:
    """Every part of claim 12. `figures` are the tables behind the figures, of all seeds that they have; `tasks` are
    what the figures are of, and `results` is the folder of the evidence."""
    seeds = sorted(set().union(*(table["seed"].unique() for table in figures.values())))
    runs = {}
    for seed in seeds:
        tables = {figure: table[table["seed"] == seed] for figure, table in figures.items()}
        runs[int(seed)] = OwnRuns({figure: table for figure, table in tables.items() if len(table)}, tasks)
    for part in OWN_RUNS.parts:
        with_figure = {seed: run for seed, run in runs.items() if part.figure in run.tables}
        yield Finding(OWN_RUNS, part, part.values(with_figure), "", results)


def introduction_of_runs(scale: str, task: Task, seeds: list[int]) -> str:
    """What was run, and how to read the verdicts, in a few sentences."""
    return (
        f"Scale {scale}, seeds {', '.join(map(str, seeds))}: runs of their own, trained as the main run but for what "
        f"their figure is about. Models of other widths and depths have the main run's matrices, {task.rows} x "
        f"{task.columns} of rank {task.rank}; sizes, ranks and laws of the others' are in their captions. {HOW_JUDGED} "
        "Criteria are in workflow/abrupt/claims/own_runs.py, the same for every seed and scale, and were written after "
        "one seed had been seen at the cpu scale."
    )
