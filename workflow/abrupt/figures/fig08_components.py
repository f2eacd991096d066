"""Single components trained alone, against normal training (paper, Figure 8)."""

import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.task import Task

ALL = "all components"
LOOKS = {
    ALL: {"color": "black", "linestyle": "-", "marker": "o"},
    "token_embedding": {"color": "#E69F00", "linestyle": (0, (5, 1.5)), "marker": "s"},
    # Runs without a drop lie on one another: one is wide and below, one dashed and above, so that all are seen.
    "position_embedding": {"color": "#9BD3F2", "linestyle": "-", "marker": "^", "linewidth": 4, "zorder": 1},
    "both_embeddings": {"color": "#009E73", "linestyle": (0, (2.5, 5)), "marker": "v", "linewidth": 1.6, "zorder": 3},
    "attention": {"color": "#0072B2", "linestyle": (0, (3, 1, 1, 1)), "marker": "D"},
    "mlp": {"color": "#CC79A7", "linestyle": (0, (2, 1)), "marker": "P"},
}


def tidy(task: Task, training: list[str], components: list[str]) -> pd.DataFrame:
    """One row for each component, seed and logged step of its run: the masked-entry MSE."""
    table = style.read_training([*training, *components])
    table["component"] = table["run"].replace("pretrain", ALL)
    return table[["component", "seed", "step", "mse_masked"]]


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """Masked-entry MSE against the step of each run, onsets marked (Figure 8)."""
    figure = style.new_figure(style.TEXT_WIDTH, 4.2)
    axes = figure.subplots()
    drops = {key: style.find_drop(run, task) for key, run in table.groupby(["component", "seed"])}
    ends = [1.05 * drop.completion for (component, _), drop in drops.items() if component == ALL and drop.found]
    end = max([table.loc[table["component"] != ALL, "step"].max(), *ends])
    named = table.assign(component=table["component"].str.replace("_", " "))
    looks = {component.replace("_", " "): look for component, look in LOOKS.items()}
    style.draw_runs(axes, named, "component", looks, task, end)
    axes.set_title(f"each part trained alone, and normal training ({style.seeds_text(table)})")
    figure.legend(loc="outside lower center", title="trained part: onset of its drop (marker)")
    return figure
