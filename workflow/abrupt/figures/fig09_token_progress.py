"""Token embeddings in the course of training, on the final axes (paper, Figure 9)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.figures.fig07_embeddings import draw_tokens
from abrupt.scores.embeddings import token_scores
from abrupt.task import Task

CURVES = {
    "magnitude": {"label": "|x|", "color": "#0072B2"},
    "sign": {"label": "sign(x)", "color": "#D55E00"},
}
LINES = {2: "-", 3: (0, (3, 1.2))}


def tidy(task: Task, training: list[str], token_embeddings: list[str]) -> pd.DataFrame:
    """One row for each seed, step and token, with the columns of `style.read_progress`."""
    return style.read_progress(task, training, token_embeddings)


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """Above the tokens at some steps, of the first seed; below scores, of every seed (Figure 9)."""
    first = table[table["seed"] == table["seed"].min()]
    steps = style.shown_steps(first)
    figure = style.new_figure(style.TEXT_WIDTH, 4.2)
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.3])
    panels = above.subplots(1, len(steps), squeeze=False)[0]
    for panel, (step, phase) in zip(panels, steps.items(), strict=True):
        draw_tokens(panel, first[first["step"] == step], "final_pc1", "final_pc2")
        panel.set(ylabel="", xlabel="final PC1", xticks=[], yticks=[])
        panel.set_title(f"step {step}\n({phase})")
    panels[0].set_ylabel("final PC2")
    above.colorbar(panels[-1].collections[0], ax=panels, label="value x of the token", aspect=20, pad=0.01)
    scores = token_scores(table)
    norms, components = below.subplots(1, 2)
    for _, seed_rows in scores.groupby("seed"):
        norms.plot(seed_rows["step"], seed_rows["norm_symmetry"], "o-", color="black", markersize=2.5)
    norms.set(
        ylabel="correlation of the norms\nof the tokens of x and −x", ylim=(min(0, scores["norm_symmetry"].min()), 1.02)
    )
    _draw_r_squared(components, scores)
    below.legend(*components.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    for panel in (norms, components):
        style.draw_progress_axis(panel, table)
    return figure


def _draw_r_squared(axes: Axes, scores: pd.DataFrame) -> None:
    """R^2 of |x| and sign(x) with the first two, and three, components of the same step."""
    for name, look in CURVES.items():
        for last, line in LINES.items():
            total = sum(scores[f"r2_pc{number}_{name}"] for number in range(1, last + 1))
            for number, (_, seed_rows) in enumerate(scores.assign(total=total).groupby("seed")):
                label = f"{look['label']} from PC1 … PC{last}" if number == 0 else None
                axes.plot(
                    seed_rows["step"],
                    seed_rows["total"],
                    "o",
                    linestyle=line,
                    markersize=2.5,
                    color=look["color"],
                    label=label,
                )
    axes.set(ylabel="R² with components\nof the same step", ylim=(0, 1.02))
