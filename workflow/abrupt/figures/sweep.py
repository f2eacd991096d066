"""Training curves of the members of a family of runs, one panel (paper, Figures 13 to 17)."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from abrupt.figures import style
from abrupt.task import Task

MARKERS = "osD^vPX"
LINES = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (2, 1)), (0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)))


def make_tidy(name: str) -> Callable[..., pd.DataFrame]:
    """The `tidy` of a family whose runs have the swept value behind `name` in their own name (width64_...)."""

    def tidy(task: Task, training: list[str]) -> pd.DataFrame:
        """One row for each member (the swept value), seed and logged step: the masked-entry MSE."""
        table = style.read_training(training)
        table["member"] = table["run"].str.extract(rf"{name}(\d+)", expand=False).astype(int)
        return table[["member", "seed", "step", "mse_masked"]]

    return tidy


def named(label: str, member: int) -> str:
    """The member in place of {} in `label`, and s in place of {s} unless it is 1."""
    return label.format(member, s="" if member == 1 else "s")


def make_draw(title: str, label: str) -> Callable[..., Figure]:
    """The `draw` of a family, with labels of its members as by `named`."""

    @style.styled
    def draw(table: pd.DataFrame, task: Task) -> Figure:
        """Masked-entry MSE against the step, one line for each member and seed, onsets marked."""
        members = sorted(table["member"].unique())
        figure = style.new_figure(style.TEXT_WIDTH, 3.2 + 0.15 * len(members))
        axes = figure.subplots()
        labelled = table.assign(member=[named(label, member) for member in table["member"]])
        looks = {named(label, member): look(number, len(members)) for number, member in enumerate(members)}
        style.draw_runs(axes, labelled, "member", looks, task, table["step"].max())
        axes.set_title(f"{title} ({style.seeds_text(table)})")
        figure.legend(loc="outside lower center", title="onset of the drop (marker)")
        return figure

    return draw


def look(number: int, count: int) -> dict[str, Any]:
    """Colour from dark to light, dashes and marker of one member among `count`."""
    shade = 0.85 * number / max(count - 1, 1)
    return {
        "color": colormaps["viridis"](shade),
        "linestyle": LINES[number % len(LINES)],
        "marker": MARKERS[number % len(MARKERS)],
    }
