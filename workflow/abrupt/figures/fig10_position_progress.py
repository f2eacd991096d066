"""Position embeddings in the course of training (paper, Figure 10)."""

import pandas as pd
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.figures.fig07_embeddings import draw_positions
from abrupt.scores.embeddings import position_scores
from abrupt.task import Task

LOOKS = {
    "column": {"color": "#D55E00", "linestyle": "-", "marker": "o"},
    "row": {"color": "#0072B2", "linestyle": (0, (3, 1.2)), "marker": "s"},
}


def tidy(task: Task, training: list[str], position_embeddings: list[str]) -> pd.DataFrame:
    """One row for each seed, step and position, with the columns of `style.read_progress`."""
    return style.read_progress(task, training, position_embeddings)


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """Above the positions at some steps, of the first seed, on the final principal components and by t-SNE
    of that step; below scores, of every seed (Figure 10)."""
    first = table[table["seed"] == table["seed"].min()]
    steps = style.shown_steps(first)
    figure = style.new_figure(style.TEXT_WIDTH, 5.6)
    above, below = figure.subfigures(2, 1, height_ratios=[1.5, 1])
    panels = above.subplots(2, len(steps), squeeze=False)
    for column, (step, phase) in zip(panels.T, steps.items(), strict=True):
        at_step = first[first["step"] == step]
        draw_positions(column[0], at_step, "final_pc1", "final_pc2")
        draw_positions(column[1], at_step, "tsne1", "tsne2")
        column[0].set_title(f"step {step}\n({phase})")
    panels[0, 0].set_ylabel("final PC1 and PC2")
    panels[1, 0].set_ylabel("t-SNE")
    above.supxlabel("colour: column, digit: row", size=7.5)
    scores = position_scores(table)
    silhouettes, shares = below.subplots(1, 2)
    for name, look in LOOKS.items():
        for number, (_, seed_rows) in enumerate(scores.groupby("seed")):
            label = {"label": f"{name}s" if number == 0 else None}
            silhouettes.plot(seed_rows["step"], seed_rows[f"silhouette_{name}"], markersize=2.5, **look, **label)
            shares.plot(seed_rows["step"], seed_rows[f"share_{name}"], markersize=2.5, **look, **label)
    silhouettes.axhline(0, color=style.GREY, linewidth=0.8, linestyle=(0, (1, 1)), zorder=0)
    silhouettes.set(ylabel="silhouette (0: none, 1: tight clusters)")
    shares.set(ylabel="share of variance between\ncolumns, and between rows", ylim=(0, 1))
    for panel in (silhouettes, shares):
        style.draw_progress_axis(panel, table)
    silhouettes.legend()
    return figure
