"""The one style of all figures, what several of them read or draw, and how they are saved."""

import io
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter, NullLocator

from abrupt.scores.drop import Drop, detect_drop, telling_steps
from abrupt.storage.attention_files import read_attention
from abrupt.storage.files import write_atomically
from abrupt.task import Task

TEXT_WIDTH = 7.0  # inches, the width of the text of a page
STANDARD_ERRORS = 2  # the length of an error bar to either side
STEP_LABEL = "step (updates)"
MSE_LABEL = "MSE (entry value squared)"
# A label of `labelled_steps` -> the look of what is drawn of that checkpoint.
STEP_LOOKS = {
    "first": {"color": "0.45", "marker": "v"},
    "before the drop": {"color": "#D55E00", "marker": "D", "mfc": "white"},
    "mid-drop": {"color": "#009E73", "marker": "s"},
    "nearest to mid-drop": {"color": "#009E73", "marker": "s"},
    "last": {"color": "#0072B2", "marker": "o"},
}
# Both are perceptually uniform, and monotone in lightness. Cividis is grey in the middle, so it shows signs too.
VALUE_COLORS = "cividis"
MAGNITUDE_COLORS = "magma_r"
GREY = "0.45"
# A group of heads (abrupt.scores.heads.HEAD_GROUPS) -> the look of its heads.
HEAD_GROUPS = {
    "same_row": {"color": "#0072B2", "marker": "s"},
    "same_column": {"color": "#D55E00", "marker": "o"},
    "self": {"color": "#CC79A7", "marker": "D"},
    "observed": {"color": "#009E73", "marker": "^"},
    "other": {"color": "0.55", "marker": "v"},
}

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

# All other settings are those that matplotlib ships, whatever a personal matplotlibrc says.
SETTINGS = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"} | STYLE

# `styled` decorates every `draw`, so that no setting leaks to or from other code.
styled = matplotlib.rc_context(SETTINGS)


class RoundedLayout(ConstrainedLayoutEngine):
    """Matplotlib's constrained layout, with all places rounded to a millionth of the figure's size.

    The solver adds numbers in the order of their memory addresses, so that the last digits of a place differ from one
    drawing to the next, and with them the bytes of the files.
    """

    def execute(self, fig: Figure) -> None:
        super().execute(fig)
        for subfigure in fig.subfigs:
            subfigure.bbox_relative.set_points(subfigure.bbox_relative.get_points().round(6))
        for axes in fig.axes:
            axes.set_position(np.round(axes.get_position(original=True).bounds, 6))
            axes.set_in_layout(True)  # `set_position` has taken it out of the layout


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, free of pyplot's global state."""
    return Figure(figsize=(width, height), layout=RoundedLayout())


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


def find_drop(curve: pd.DataFrame, task: Task) -> Drop:
    """The drop of one run, a table with columns `step` and `mse_masked`."""
    return detect_drop(curve["step"].to_numpy(), curve["mse_masked"].to_numpy(), task.entry_variance)


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


def progress_steps(drop: Drop, steps: list[int]) -> dict[int, str]:
    """Up to six of the extracted steps that show the course of training, in order, each with the loss's phase: the
    first, the last well before the drop, those nearest to the middle, the end and twice the end of the drop, and the
    last. Without a drop they are spread evenly."""
    steps = sorted(steps)
    if not drop.found:
        return {steps[round(index)]: "no drop" for index in np.linspace(0, len(steps) - 1, 6)}
    on_plateau = [step for step in steps if drop.is_before(step)] or steps[:1]
    middles = (drop.midpoint, drop.completion, 2 * drop.completion)
    nearest = [min(steps, key=lambda step, middle=middle: abs(step - middle)) for middle in middles]
    chosen = sorted({steps[0], on_plateau[-1], *nearest, steps[-1]})
    return {step: _phase(drop, step) for step in chosen}


def _phase(drop: Drop, step: int) -> str:
    """Which part of the curve a step is in; in the last quarter of the plateau the fall may have begun."""
    if drop.is_before(step):
        return "plateau"
    if step <= drop.onset:
        return "end of plateau"
    return "drop" if step < drop.completion else "completion"


def read_progress(task: Task, training: list[str], analysis: list[str]) -> pd.DataFrame:
    """The tables of an analysis at several steps, one below the other, with columns `label` (of the telling
    steps), `phase` (of `progress_steps`), both empty for other steps, and `onset` and `completion` of the
    seed's drop (nan without one)."""
    curves = dict(list(read_training(training).groupby("seed")))
    tables = []
    for table in map(pd.read_csv, analysis):
        drop = find_drop(curves[table["seed"].iloc[0]], task)
        steps = table["step"].unique().tolist()
        labels, phases = (table["step"].map(choose(drop, steps)) for choose in (labelled_steps, progress_steps))
        tables.append(table.assign(label=labels, phase=phases, onset=drop.onset, completion=drop.completion))
    return pd.concat(tables, ignore_index=True).astype({"onset": float, "completion": float})


def shown_steps(table: pd.DataFrame) -> dict[int, str]:
    """The steps of one seed in a table of `read_progress` that have a phase, with it, in order."""
    shown = table.dropna(subset=["phase"]).sort_values("step")
    return dict(zip(shown["step"], shown["phase"], strict=True))


def category_color(number: int, count: int) -> tuple[float, ...]:
    """The colour of one of `count` categories: colour-blind safe ones if they are enough, else of a scale."""
    safe = seaborn.color_palette("colorblind")
    return safe[number] if count <= len(safe) else matplotlib.colormaps["viridis"]((number + 1) / (count + 1))


class Snapshot(NamedTuple):
    """What an attention file holds for random masks; `mse_masked` is of training, nan at step 0."""

    seed: int
    step: int
    label: str
    mse_masked: float
    arrays: dict[str, np.ndarray]


def read_snapshots(
    task: Task,
    training: str,
    attention: list[str],
    names: tuple[str, ...],
    choose: Callable[[Drop, list[int]], dict[int, str]] = labelled_steps,
) -> Iterator[Snapshot]:
    """The datasets called `names`, for random masks, at the steps that `choose` takes, by default the telling ones."""
    curve = read_training([training])
    paths = {int(read_attention(path, ())[0]["step"]): path for path in attention}
    for step, label in choose(find_drop(curve, task), list(paths)).items():
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


def values_text(values: Collection[float]) -> str:
    """'0.444', or '0.444–0.45' where seeds differ: three significant digits."""
    return "–".join(dict.fromkeys(f"{value:.3g}" for value in (min(values), max(values))))


def no_drop_text(drops: list[Drop], task: Task) -> str:
    """'within 5000 steps (ends at 98.7 % of plateau)' for curves without a drop: how far from one they are."""
    levels = [round(100 * drop.final / task.entry_variance, 1) for drop in drops]
    return f"within {drops[0].last_step} steps (ends at {span_text(levels)} % of plateau)"


def draw_errors(axes: Axes, x: Any, y: Any, xerr: Any = None, yerr: Any = None, **look: Any) -> None:
    """Points, or a line, with bars of two standard errors either way; `xerr` and `yerr` are one standard error each."""
    bars = {name: STANDARD_ERRORS * error for name, error in {"xerr": xerr, "yerr": yerr}.items() if error is not None}
    axes.errorbar(x, y, **bars, **{"elinewidth": 0.6, **look})


def draw_plateau(axes: Axes, task: Task) -> None:
    """A horizontal line at the masked-entry MSE of predicting 0."""
    level = task.entry_variance
    label = f"predicting 0: E[x²] = {level:.3g}"
    axes.axhline(level, color=GREY, linewidth=0.8, linestyle=(0, (1, 1)), label=label, zorder=1.5)


def draw_progress_axis(axes: Axes, table: pd.DataFrame) -> None:
    """The axis of the steps in a table of `read_progress`, linear below the first step after 0 and
    logarithmic above, with each seed's drop shaded."""
    steps = np.unique(table["step"])
    first, last = steps[steps > 0].min(), steps[-1]
    axes.set_xscale("symlog", linthresh=first, linscale=0.5)
    decades = [10**power for power in range(9) if 2 * first <= 10**power <= last / 2]
    ticks = sorted({0, first, *decades, last})
    axes.set_xticks(ticks, [f"{tick / 1000:g}k" if tick >= 1000 else tick for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlim=(-0.1 * first, 1.15 * last), xlabel=STEP_LABEL)
    for onset, completion in table[["onset", "completion"]].dropna().drop_duplicates().to_numpy():
        axes.axvspan(onset, completion, color="0.5", alpha=0.15, linewidth=0, zorder=-1)


def draw_runs(
    axes: Axes, table: pd.DataFrame, column: str, looks: dict[str, dict[str, Any]], task: Task, end: float
) -> None:
    """Masked-entry MSE of every run up to step `end`, with a look for each value of `column`. Onsets are
    marked, and said in the labels: 'mlp: step 900', 'mlp: none within 5000 steps ...'."""
    for name, look in looks.items():
        runs = table[table[column] == name].groupby("seed")
        if not len(runs):
            continue
        drops = []
        for _, run in runs:
            drops.append(find_drop(run, task))
            run = run[run["step"] <= end]
            onset = run["step"] == drops[-1].onset
            axes.plot(run["step"], run["mse_masked"], markevery=onset, **{"linewidth": 0.9, **look})
        axes.plot([], [], **look, label=f"{name}: {outcome_text(drops, table['step'].min(), task)}")
    draw_plateau(axes, task)
    axes.set(yscale="log", xlim=(0, end), xlabel=STEP_LABEL, ylabel="masked-entry " + MSE_LABEL)


def outcome_text(drops: list[Drop], first_step: int, task: Task) -> str:
    """The onsets of one member's runs, and how many of its seeds have no plateau or no drop."""
    at_once = [drop for drop in drops if drop.found and drop.onset <= first_step]
    onsets = [drop.onset for drop in drops if drop.found and drop not in at_once]
    censored = [drop for drop in drops if not drop.found]
    outcomes = [f"step {span_text(onsets)}"] if onsets else []
    for some, outcome in [(at_once, "no plateau"), (censored, "none")]:
        if some:
            seeds = "" if len(some) == len(drops) else f" in {len(some)} of {len(drops)} seeds"
            outcomes.append(outcome + seeds)
    if censored:
        outcomes[-1] += f" {no_drop_text(censored, task)}"
    return ", ".join(outcomes)


def legend_below(figure: Figure, ncols: int) -> None:
    """One legend for all panels and seeds, each label once."""
    entries = {}
    for axes in figure.axes:
        entries |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=ncols)


def share_log_scale(panels: Collection[Axes]) -> None:
    """One logarithmic scale for the x axes of all panels, of a decade at least, so that some power of ten is on it."""
    for panel in panels:
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
    low, high = min(panel.get_xlim()[0] for panel in panels), max(panel.get_xlim()[1] for panel in panels)
    middle, reach = (low * high) ** 0.5, max(high / low, 10.5) ** 0.5
    for panel in panels:
        panel.set_xlim(middle / reach, middle * reach)


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
