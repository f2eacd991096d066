"""The one style of all figures, what several of them read or draw, and how they are saved."""

import io
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from abrupt.attention_file import read_attention
from abrupt.drop import Drop, detect_drop, plateau_mse_masked, telling_steps
from abrupt.files import write_atomically

TEXT_WIDTH = 7.0  # inches, of a page's text
STEP_LABEL = "step (updates)"
MSE_LABEL = "MSE (entry value squared)"
# Perceptually uniform and monotone in lightness. Cividis is grey in the middle: it shows signs too.
VALUE_COLORS = "cividis"
MAGNITUDE_COLORS = "magma_r"
GREY = "0.45"

STYLE = {
    **seaborn.axes_style("ticks"),
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "black",
    "patch.edgecolor": "black",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 4.5,
}

# Decorates every `draw`, so that no setting leaks to or from other code.
styled = matplotlib.rc_context(STYLE)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, free of pyplot's global state."""
    return Figure(figsize=(width, height), layout="constrained")


@styled
def save(figure: Figure, pdf_path: str | Path, png_path: str | Path) -> None:
    """Write both files atomically; the same figure always gives the same bytes."""
    # No date in the PDF, no version of matplotlib in the PNG.
    for path, kind, metadata in [(pdf_path, "pdf", {"CreationDate": None}), (png_path, "png", {"Software": None})]:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=metadata)
        write_atomically(path, buffer.getvalue())


def read_training(paths: list[str]) -> pd.DataFrame:
    """Training curves, one below the other, with columns `run` (pretrain or a component) and `seed` in
    front. Both are read from the path: .../<run>/seed<seed>/training.csv."""
    tables = []
    for path in map(Path, paths):
        table = pd.read_csv(path)
        table.insert(0, "seed", int(path.parent.name.removeprefix("seed")))
        table.insert(0, "run", path.parent.parent.name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def find_drop(curve: pd.DataFrame, task: dict[str, Any]) -> Drop:
    """The drop of one run, a table with columns `step` and `mse_masked`."""
    return detect_drop(curve["step"].to_numpy(), curve["mse_masked"].to_numpy(), plateau_mse_masked(task["rank"]))


def labelled_steps(drop: Drop, steps: list[int]) -> dict[int, str]:
    """The steps to show, in order, each with a label that is true of it: few steps may have been extracted."""
    telling = telling_steps(drop, steps)
    middle = telling.pop("mid-drop", None)
    labels = {step: label for label, step in telling.items()}
    if drop.found and drop.onset < min(labels) < max(labels):
        labels[min(labels)] = "first"
    if middle not in {None, *labels}:
        labels[middle] = "mid-drop" if drop.onset < middle < drop.completion else "nearest to mid-drop"
    return dict(sorted(labels.items()))


class Snapshot(NamedTuple):
    """What an attention file holds for random masks; `mse_masked` is of training, nan at step 0."""

    seed: int
    step: int
    label: str
    mse_masked: float
    arrays: dict[str, np.ndarray]


def read_snapshots(
    task: dict[str, Any], training: str, attention: list[str], names: tuple[str, ...]
) -> Iterator[Snapshot]:
    """The datasets called `names` at the telling steps of the drop."""
    curve = read_training([training])
    paths = {int(read_attention(path, ())[0]["step"]): path for path in attention}
    for step, label in labelled_steps(find_drop(curve, task), list(paths)).items():
        attributes, patterns = read_attention(paths[step], names)
        logged = curve.loc[curve["step"] <= step, "mse_masked"]
        mse_masked = logged.iloc[-1] if len(logged) else np.nan
        yield Snapshot(int(attributes["seed"]), step, label, mse_masked, patterns["random"])


def seeds_text(table: pd.DataFrame) -> str:
    """'seed 0' or 'seeds 0, 1, 2'."""
    seeds = sorted(table["seed"].unique())
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def span_text(numbers: Collection[float]) -> str:
    """'900' or '900–1400'."""
    return "–".join(str(number) for number in sorted({min(numbers), max(numbers)}))


def no_drop_text(drops: list[Drop], task: dict[str, Any]) -> str:
    """'within 5000 steps (ends at 98.7 % of plateau)' for curves without a drop: how far from one they are."""
    levels = [round(100 * drop.final / plateau_mse_masked(task["rank"]), 1) for drop in drops]
    return f"within {drops[0].last_step} steps (ends at {span_text(levels)} % of plateau)"


def draw_plateau(axes: Axes, task: dict[str, Any]) -> None:
    """A horizontal line at the masked-entry MSE of predicting 0."""
    level = plateau_mse_masked(task["rank"])
    label = f"predicting 0: rank/9 = {level:.3g}"
    axes.axhline(level, color=GREY, linewidth=0.8, linestyle=(0, (1, 1)), label=label, zorder=0)


def draw_matrix(axes: Axes, values: np.ndarray, observed: np.ndarray, **imshow: Any) -> Any:
    """A matrix as colours, rows and columns counted from 1, its masked entries outlined. Returns the image."""
    image = axes.imshow(values, **imshow)
    rows, columns = values.shape
    axes.set_xticks(range(columns), range(1, columns + 1))
    axes.set_yticks(range(rows), range(1, rows + 1))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    halo = [patheffects.withStroke(linewidth=2.2, foreground="white")]
    for row, column in np.argwhere(~observed):
        corner = (column - 0.42, row - 0.42)
        axes.add_patch(Rectangle(corner, 0.84, 0.84, fill=False, linewidth=1, path_effects=halo))
    return image


def grid(table: pd.DataFrame, column: str) -> np.ndarray:
    """One column of a table with `row` and `column` as a matrix."""
    return table.pivot(index="row", columns="column", values=column).to_numpy()
