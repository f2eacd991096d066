"""Single components trained alone, against normal training (paper, Figure 8)."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from abrupt.drop import Drop
from abrupt.figures import style

ALL = "all components"
LOOKS = {
    ALL: {"color": "black", "linestyle": "-", "marker": "o"},
    "token_embedding": {"color": "#E69F00", "linestyle": (0, (5, 1.5)), "marker": "s"},
    "position_embedding": {"color": "#56B4E9", "linestyle": "-", "marker": "^"},
    "both_embeddings": {"color": "#009E73", "linestyle": (0, (1, 1)), "marker": "v"},
    "attention": {"color": "#0072B2", "linestyle": (0, (3, 1, 1, 1)), "marker": "D"},
    "mlp": {"color": "#CC79A7", "linestyle": (0, (2, 1)), "marker": "P"},
}


def tidy(task: dict[str, Any], training: list[str], components: list[str]) -> pd.DataFrame:
    """One row for each component, seed and logged step of its run: the masked-entry MSE."""
    table = style.read_training([*training, *components])
    table["component"] = table["run"].replace("pretrain", ALL)
    return table[["component", "seed", "step", "mse_masked"]]


@style.styled
def draw(table: pd.DataFrame, task: dict[str, Any]) -> Figure:
    """Masked-entry MSE against the step of each run, onsets marked (Figure 8)."""
    figure = style.new_figure(style.TEXT_WIDTH, 4.2)
    axes = figure.subplots()
    drops = {key: style.find_drop(run, task) for key, run in table.groupby(["component", "seed"])}
    ends = [1.05 * drop.completion for (component, _), drop in drops.items() if component == ALL and drop.found]
    end = max([table.loc[table["component"] != ALL, "step"].max(), *ends])
    for component, look in LOOKS.items():
        runs = table[(table["component"] == component) & (table["step"] <= end)].groupby("seed")
        if not len(runs):
            continue
        for seed, run in runs:
            onset = drops[component, seed].onset
            axes.plot(run["step"], run["mse_masked"], linewidth=0.9, markevery=run["step"] == onset, **look)
        outcome = _outcome([drops[component, seed] for seed in runs.groups], table["step"].min(), task)
        axes.plot([], [], **look, label=f"{component.replace('_', ' ')}: {outcome}")
    style.draw_plateau(axes, task)
    axes.set(yscale="log", xlim=(0, end), xlabel=style.STEP_LABEL, ylabel="masked-entry " + style.MSE_LABEL)
    axes.set_title(f"each part trained alone, and normal training ({style.seeds_text(table)})")
    figure.legend(loc="outside lower center", title="trained part: onset of its drop (marker)")
    return figure


def _outcome(drops: list[Drop], first_step: int, task: dict[str, Any]) -> str:
    """The onsets of one component's runs, and how many of its seeds have no plateau or no drop."""
    at_once = [drop for drop in drops if drop.found and drop.onset <= first_step]
    onsets = [drop.onset for drop in drops if drop.found and drop not in at_once]
    censored = [drop for drop in drops if not drop.found]
    outcomes = [f"step {style.span_text(onsets)}"] if onsets else []
    for some, outcome in [(at_once, "no plateau"), (censored, "none")]:
        if some:
            seeds = "" if len(some) == len(drops) else f" in {len(some)} of {len(drops)} seeds"
            outcomes.append(outcome + seeds)
    if censored:
        outcomes[-1] += f" {style.no_drop_text(censored, task)}"
    return ", ".join(outcomes)
