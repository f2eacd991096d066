"""Token and position embeddings after training (paper, Figure 7)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.scores.embeddings import COMPONENTS, PREDICTORS, position_scores, token_scores
from abrupt.task import Task

NAMES = {"magnitude": "|x|", "sign": "sign(x)", "value": "x"}


def tidy(task: Task, token_embeddings: str, position_embeddings: str) -> pd.DataFrame:
    """One row for each token and one for each position of one seed (`kind` says which) at the last step."""
    tables = []
    for kind, path in {"token": token_embeddings, "position": position_embeddings}.items():
        table = pd.read_csv(path)
        tables.append(table[table["step"] == table["step"].max()].assign(kind=kind))
    return pd.concat(tables, ignore_index=True)


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """Tokens above: norms, principal components and what these stand for; positions below (Figure 7)."""
    tokens, positions = (table[table["kind"] == kind] for kind in ("token", "position"))
    about_tokens, about_positions = token_scores(tokens).iloc[0], position_scores(positions).iloc[0]
    figure = style.new_figure(style.TEXT_WIDTH, 4.6)
    figure.suptitle(f"seed {tokens['seed'].iloc[0]}, step {tokens['step'].iloc[0]}", size=7.5)
    above, below = figure.subplots(2, 3)
    _draw_norms(above[0], tokens, about_tokens)
    draw_tokens(above[1], tokens, "pc1", "pc2")
    figure.colorbar(above[1].collections[0], ax=above[1], label="value x of the token", aspect=30)
    above[1].set_title("token embeddings")
    _draw_r_squared(above[2], about_tokens)
    _draw_positions_maps(below, positions, about_positions)
    _draw_shares(below[2], about_positions, task)
    return figure


def _draw_norms(axes: Axes, tokens: pd.DataFrame, scores: pd.Series) -> None:
    axes.plot(tokens["value"], tokens["norm"], color="black", label="token of x")
    axes.plot(-tokens["value"], tokens["norm"], color="#D55E00", linewidth=0.7, alpha=0.8, label="token of −x")
    axes.set(xlabel="value x", ylabel="norm of the embedding", ylim=(0, None))
    axes.set_title(
        f"correlation of the two, x > 0: {scores['norm_symmetry']:.3f}\n"
        f"mean |difference|: {100 * scores['norm_asymmetry']:.1f} % of the range"
    )
    axes.legend(loc="lower right")


def draw_tokens(axes: Axes, tokens: pd.DataFrame, horizontal: str, vertical: str) -> None:
    """Token embeddings as points on two of their coordinates, coloured by value: hue is sign, depth is size."""
    limit = tokens["value"].abs().max()
    axes.scatter(tokens[horizontal], tokens[vertical], c=tokens["value"], s=5, cmap="coolwarm", vmin=-limit, vmax=limit)
    axes.set(xlabel=horizontal.upper().replace("_", " "), ylabel=vertical.upper().replace("_", " "))


def _draw_r_squared(axes: Axes, scores: pd.Series) -> None:
    """R^2 of every component with every predictor, as numbers on colours."""
    values = np.array([[scores[f"r2_pc{number}_{name}"] for name in PREDICTORS] for number in COMPONENTS])
    axes.imshow(values, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value > 0.5 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(PREDICTORS)), [NAMES[name] for name in PREDICTORS])
    shares = [f"PC{number}\n({100 * scores[f'share_pc{number}']:.0f} %)" for number in COMPONENTS]
    axes.set_yticks(range(len(COMPONENTS)), shares)
    axes.tick_params(length=0)
    axes.set_title("R² of token components (share\nof variance) with …")


def draw_positions(axes: Axes, positions: pd.DataFrame, horizontal: str, vertical: str) -> None:
    """Position embeddings as points on two of their coordinates: colours are columns, digits rows."""
    columns = positions["column"].max()
    for column, row, x, y in positions[["column", "row", horizontal, vertical]].to_numpy():
        color = style.category_color(int(column) - 1, columns)
        axes.plot(x, y, "o", color=color, markersize=6, markeredgewidth=0)
        ink = "black" if np.dot(color[:3], (0.3, 0.6, 0.1)) > 0.55 else "white"
        axes.text(x, y, f"{row:.0f}", ha="center", va="center_baseline", size=4.5, color=ink, weight="bold")
    axes.set(xticks=[], yticks=[])


def _draw_positions_maps(axes: np.ndarray, positions: pd.DataFrame, scores: pd.Series) -> None:
    draw_positions(axes[0], positions, "tsne1", "tsne2")
    axes[0].set(xlabel="t-SNE 1", ylabel="t-SNE 2")
    silhouettes = f"columns {scores['silhouette_column']:.2f}, rows {scores['silhouette_row']:.2f}"
    axes[0].set_title(f"position embeddings\n(silhouettes of {silhouettes})")
    draw_positions(axes[1], positions, "final_pc1", "final_pc2")
    axes[1].set(xlabel="PC1", ylabel="PC2")
    axes[1].set_title("position embeddings\n(colour: column, digit: row)")


def _draw_shares(axes: Axes, scores: pd.Series, task: Task) -> None:
    """The variance of position embeddings between columns, between rows and the rest, against chance."""
    rows, columns = task.rows, task.columns
    chance = np.array([columns - 1, rows - 1, (rows - 1) * (columns - 1)]) / (rows * columns - 1)
    names = ("column", "row", "rest")
    axes.bar(names, [scores[f"share_{name}"] for name in names], color=["#D55E00", "#0072B2", "0.6"], linewidth=0)
    axes.hlines(chance, np.arange(3) - 0.4, np.arange(3) + 0.4, color="black", linewidth=1, label="random embeddings")
    axes.set(ylim=(0, 1), ylabel="share of the variance of\nposition embeddings")
    axes.set_xticks(range(3), ["between\ncolumns", "between\nrows", "rest"])
    axes.legend()
