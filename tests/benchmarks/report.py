"""The benchmark table as Markdown and as a figure."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogLocator

from abrupt.figures.style import GREY, TEXT_WIDTH, new_figure, styled
from abrupt.models.components import COMPONENTS

PARTS = ("sampling", "forward", "forward_backward", "optimiser", "evaluation")
GEMMS = ("sgemm", "bf16_gemm", "tf32_gemm")
AXES = {
    "matrix_size": "rows and columns",
    "batch_size": "batch size",
    "width": "width",
    "depth": "layers",
    "threads": "threads",
}
OURS, THEIRS = "#0072B2", "#D55E00"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _with_spread(row: pd.Series, name: str) -> str:
    return f"{row[name]:.3g} ({row[f'{name}_q1']:.3g}–{row[f'{name}_q3']:.3g})"


def _percent(value: float) -> str:
    return "" if np.isnan(value) else f"{100 * value:.3g} %"


def markdown(table: pd.DataFrame, machine: dict[str, Any]) -> str:
    """Every number of the table, in sections; spreads are quartiles over turns."""
    training = table[table["benchmark"] == "training"]
    about = {key: ", ".join(value) if isinstance(value, list) else value for key, value in machine.items()}
    blocks = [
        "# Speed of training",
        "\n".join(f"- {key}: {value}" for key, value in about.items()),
        "Medians over turns, quartiles in brackets. A ratio is the reference's time over the contender's within a "
        "turn; the bound is what it would be if time went by matrix products alone. The authors evaluate after every "
        "step, we every few hundred, which a median over turns does not show: see the parts. The ceiling is of the "
        "contender's own precision.",
        "## Against the authors' loop, and component runs against pretraining",
        _ratios(training[~training["contender"].isin([*PARTS, *GEMMS])]),
    ]
    parts = training[training["contender"].isin(PARTS)]
    if len(parts):
        title = "## Parts of our step, each timed on its own (evaluation: once every few hundred steps)"
        blocks += [title, _parts(parts)]
    blocks += ["## The machine's ceiling: square matrix products", _ceilings(training)]
    axes = table[table["benchmark"].isin(AXES) & (table["contender"] == "pretraining")]
    if len(axes):
        blocks += ["## Cost against work", _axes(axes)]
    jobs = table[table["benchmark"] == "jobs"]
    if len(jobs):
        blocks += ["## Jobs side by side", _jobs(jobs)]
    memory = table[table["benchmark"] == "memory"]
    if len(memory):
        blocks += ["## Memory of two updates and an evaluation", _memory(memory)]
    return "\n\n".join(blocks) + "\n"


def _ratios(rows: pd.DataFrame) -> str:
    cells = [
        [
            row["shape"],
            row["contender"],
            str(row["threads"]),
            _with_spread(row, "ms"),
            f"{1000 / row['ms']:.3g}",
            *(
                [row["reference"], _with_spread(row, "ratio"), f"{row['flop_bound']:.2f}"]
                if isinstance(row["reference"], str)
                else ["", "", ""]
            ),
            f"{row['flops'] / 1e9:.3g}",
            _percent(row["fraction_of_ceiling"]),
        ]
        for _, row in rows.iterrows()
    ]
    header = ["shape", "contender", "threads", "ms a step", "steps/s", "against", "ratio", "bound", "GFLOP a step"]
    return markdown_table([*header, "of the ceiling"], cells)


def _parts(rows: pd.DataFrame) -> str:
    cells = [
        [row["shape"], row["contender"], _with_spread(row, "ms"), _percent(1 / row["ratio"])]
        for _, row in rows.iterrows()
    ]
    return markdown_table(["shape", "part", "ms", "of a step"], cells)


def _ceilings(training: pd.DataFrame) -> str:
    cells = [
        [row["shape"], row["contender"], str(row["threads"]), f"{row['gflops_per_second']:.4g}"]
        for _, row in training[training["contender"].isin(GEMMS)].iterrows()
    ]
    return markdown_table(["beside", "product", "threads", "GFLOP/s"], cells)


def _axes(rows: pd.DataFrame) -> str:
    cells = [
        [
            row["benchmark"],
            f"{row['value']:g}",
            str(row["threads"]),
            _with_spread(row, "ms"),
            f"{row['flops'] / 1e9:.3g}",
            _percent(row["fraction_of_ceiling"]),
        ]
        for _, row in rows.iterrows()
    ]
    return markdown_table(["varied", "value", "threads", "ms a step", "GFLOP a step", "of the sgemm ceiling"], cells)


def _jobs(rows: pd.DataFrame) -> str:
    cells = [
        [f"{row['jobs']:g}", str(row["threads"]), f"{1000 / row['ms']:.3g}", _with_spread(row, "ratio")]
        for _, row in rows.iterrows()
    ]
    return markdown_table(["jobs", "threads of each", "steps/s of all", "against one job on one thread"], cells)


def _memory(rows: pd.DataFrame) -> str:
    cells = [[row["shape"], f"{row['peak_rss_mb']:.0f}"] for _, row in rows.iterrows()]
    return markdown_table(["shape", "peak, MB"], cells)


@styled
def draw(table: pd.DataFrame) -> Figure:
    """Left: ratios with their bounds, and fractions of the ceiling. Right: cost against work."""
    figure = new_figure(TEXT_WIDTH, 5.6)
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.2])
    training = table[table["benchmark"] == "training"]
    shapes = list(training["shape"].unique())
    panels = left.subplots(3, 1, height_ratios=[len(shapes) + 2, len(COMPONENTS) + 2, 1.5 * len(shapes) + 2])
    _draw_ratios(panels[0], training[training["contender"] == "pretraining"], "shape", shapes)
    panels[0].set_title("speed-up over the authors' loop")
    _draw_ratios(panels[1], training[training["contender"].isin(COMPONENTS)], "contender", list(COMPONENTS))
    panels[1].set_title("component runs: speed-up over pretraining")
    _draw_fractions(panels[2], training, shapes)
    _legend_below(left, panels)
    panels = right.subplots(3, 2).flatten()
    for panel, axis in zip(panels, [*AXES, "jobs"], strict=True):
        rows = table[(table["benchmark"] == axis) & (table["contender"] == "pretraining")]
        if axis in ("threads", "jobs"):
            _draw_throughput(panel, rows, axis)
        else:
            _draw_cost(panel, rows, axis)
    _legend_below(right, panels)
    return figure


def _legend_below(figure: SubFigure, panels: np.ndarray) -> None:
    """One legend for all panels, each label once."""
    handles = {}
    for panel in panels:
        handles |= {label: handle for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)


def _draw_ratios(axes: Axes, rows: pd.DataFrame, column: str, names: list[str]) -> None:
    """A line for each of `names`, values of `column`; component runs have several shapes on it, top to bottom."""
    shapes = list(rows["shape"].unique())
    several = column != "shape" and len(shapes) > 1
    offsets = dict(zip(shapes, np.linspace(-0.2, 0.2, len(shapes)) if several else np.zeros(len(shapes)), strict=True))
    positions = rows[column].map(names.index) + rows["shape"].map(offsets)
    errors = [rows["ratio"] - rows["ratio_q1"], rows["ratio_q3"] - rows["ratio"]]
    axes.errorbar(rows["ratio"], positions, xerr=errors, fmt="o", color=OURS, label="median, quartiles")
    axes.plot(rows["flop_bound"], positions, "|", color=THEIRS, markersize=9, mew=1.5, label="by matrix products alone")
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, None), ylim=(len(names) - 0.5, -0.5))
    if several:
        axes.set_xlabel(f"each: {', '.join(shapes)} (from above)")


def _draw_fractions(axes: Axes, training: pd.DataFrame, shapes: list[str]) -> None:
    for contender, color, shift in [("pretraining", OURS, -0.2), ("authors_loop", THEIRS, 0.2)]:
        own = training[training["contender"] == contender]
        positions = own["shape"].map(shapes.index) + shift
        label = contender.replace("authors_", "authors' ")
        axes.barh(positions, own["fraction_of_ceiling"], height=0.38, color=color, linewidth=0, label=label)
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(shapes)), shapes)
    axes.set(title="fraction of the speed of large sgemm", xlim=(0, None), ylim=(len(shapes) - 0.5, -0.5))


def _draw_cost(axes: Axes, rows: pd.DataFrame, axis: str) -> None:
    """Time of a step, and what it would be at the last point's speed."""
    errors = [rows["ms"] - rows["ms_q1"], rows["ms_q3"] - rows["ms"]]
    axes.errorbar(rows["value"], rows["ms"], yerr=errors, fmt="o-", color=OURS, label="median, quartiles")
    expected = rows["ms"].iloc[-1] * rows["flops"] / rows["flops"].iloc[-1]
    axes.plot(rows["value"], expected, "--", color=GREY, zorder=0, label="in proportion to work")
    axes.set(xscale="log", yscale="log", xlabel=AXES[axis], ylabel="ms a step")
    axes.set_xticks(rows["value"], [f"{value:g}" for value in rows["value"]])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def _draw_throughput(axes: Axes, rows: pd.DataFrame, axis: str) -> None:
    """Steps a second of all threads or jobs, and what they would be at the first point's speed for each."""
    axes.set(xlabel=axis, ylabel="steps/s of all")
    if not len(rows):  # threads, on a GPU
        return
    single = rows[rows["threads"] == 1] if axis == "jobs" else rows
    rate = 1000 / single["ms"]
    errors = [rate - 1000 / single["ms_q3"], 1000 / single["ms_q1"] - rate]
    axes.errorbar(single["value"], rate, yerr=errors, fmt="o-", color=OURS, label="median, quartiles")
    axes.plot(single["value"], rate.iloc[0] * single["value"], "--", color=GREY, zorder=0)
    if axis == "jobs":
        other = rows[rows["threads"] == 2]
        axes.plot(other["value"], 1000 / other["ms"], "s", color=THEIRS, label="one job, two threads")
    axes.set_ylim(0, None)
    axes.set_xticks(single["value"], [f"{value:g}" for value in single["value"]])
