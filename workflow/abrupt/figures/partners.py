"""What the drop is made of: which one entry decides whether a masked entry is predicted (ours; not in the paper)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from abrupt.figures import style
from abrupt.scores import partners as scores
from abrupt.scores.drop import telling_steps
from abrupt.task import Task

# Of what a query hangs on.
KINDS = {
    "same_row": {
        "color": style.HEAD_GROUPS["same_row"]["color"],
        "label": "one entry of its row (number: which column)",
    },
    "same_column": {
        "color": style.HEAD_GROUPS["same_column"]["color"],
        "label": "one entry of its column (number: which row)",
    },
    "elsewhere": {"color": "#009E73", "label": "one entry elsewhere"},
    "several": {"color": "#CC79A7", "label": "several entries at once"},
    "none": {"color": "0.85", "label": "none in particular"},
}
ROLES = {
    "partner": "the partner",
    "as_attended": "the most attended other",
    "same_line": "another of its line",
    "other_line": "one of the other line",
}
CONDITIONS = {
    "no_partner": {"label": "no partner", "color": "0.6"},
    "partner_masked": {"label": "partner masked", "color": "#E69F00"},
    "no_shared_line": {"label": "observed, but no line\nshows the ratio", "color": "#56B4E9"},
    "not_through_map": {"label": "observed, but no line that\nthe map reads shows it", "color": "#0072B2"},
    "decided": {"label": "observed with the ratio", "color": "black"},
}


def read_seed(task: Task, training: str, partners: str) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """One seed's loss curve, its table of the analysis, and the steps to show: on the plateau, in the drop, at the
    rest, and the last (if it is not the rest), all chosen by the loss alone."""
    curve, table = style.read_training([training]), pd.read_csv(partners, low_memory=False)
    steps = sorted(table["step"].unique().tolist())
    rest = scores.rest_step(curve["step"], curve["mse_masked"], task.entry_variance, steps)
    telling = telling_steps(style.find_drop(curve, task), steps)
    shown = {"plateau": telling.get("before the drop", telling.get("first")), "drop": telling.get("mid-drop")}
    shown |= {"rest": rest} | ({"end": steps[-1]} if rest < steps[-1] else {})
    return curve, table, {label: step for label, step in shown.items() if step is not None}


def tidy(task: Task, training: list[str], partners: list[str]) -> pd.DataFrame:
    """Of the first seed, told apart by the column `panel`: loss (step, mse_masked); map, at the steps with a label, as
    from `abrupt.scores.partners.describe`; level, seen and predicted from the map (nan without partners), at every
    step; attention to the partners at the rest, by step; flip, condition and ratio, of the analysis, at the rest.
    """
    curve, table, shown = read_seed(task, training[0], partners[0])
    rest = shown["rest"]
    parts = [curve[["step", "mse_masked"]].assign(panel="loss")]
    for label, step in shown.items():
        parts.append(scores.describe(table, task, step).assign(panel="map", label=label, step=step))
    levels = []
    for step in sorted(table["step"].unique()):
        partner_map, needed = scores.partner_map(table, task, step), scores.needed_map(table, task, step)
        predicted = scores.predicted_level(task, partner_map, needed).mse if partner_map.any() else np.nan
        levels.append({"step": step, "seen": scores.seen_level(table, step), "predicted": predicted})
    flips = scores.part(table, "interventions", rest)
    if len(flips):
        flips = flips[flips["intervention"] == "flip"]
    parts += [
        pd.DataFrame(levels).assign(panel="level"),
        scores.later_attention(table, task, rest).assign(panel="attention"),
        flips.assign(panel="flip"),
        scores.part(table, "conditions", rest).assign(panel="condition"),
        scores.part(table, "ratios", rest).assign(panel="ratio"),
    ]
    result = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return result.assign(seed=table["seed"].iloc[0])


def draw_map(axes: Axes, rows: pd.DataFrame, task: Task) -> None:
    """A matrix whose cells say what a query hangs on (the stronger, the darker), and arcs between the rows and the
    columns that are paired, the thicker the more of their queries are."""
    for (row, column), of_query in rows.groupby(["row", "column"]):
        first = of_query.iloc[0]
        strength = np.clip(first["gain"], 0.12, 1) if first["kind"] != "none" else 1
        corner = (column - 0.46, row - 0.46)
        axes.add_patch(Rectangle(corner, 0.92, 0.92, color=KINDS[first["kind"]]["color"], alpha=strength, linewidth=0))
        names = [_line(partner) for _, partner in of_query.iterrows() if partner["kind"] in ("same_row", "same_column")]
        color = "white" if strength > 0.5 else "black"
        axes.text(column, row, " ".join(names), ha="center", va="center_baseline", size=5.5, color=color)
    for axis, kind in (("row", "same_column"), ("column", "same_row")):
        paired = rows[rows["kind"] == kind]
        for (line, partner), queries in paired.groupby([axis, f"partner_{axis}"]):
            _draw_arc(axes, axis, line, partner, KINDS[kind]["color"], len(queries) / task.num_entries * 7)
    axes.set(xlim=(-1.2, task.columns + 0.6), ylim=(task.rows + 0.6, -1.2), aspect="equal")
    axes.set_xticks(range(1, task.columns + 1))
    axes.set_yticks(range(1, task.rows + 1))
    axes.tick_params(length=0, pad=0)
    axes.tick_params(axis="x", top=False, labeltop=False, labelbottom=True)
    axes.tick_params(axis="y", labelleft=False, labelright=True)
    axes.spines[:].set_visible(False)


def _line(query: pd.Series) -> str:
    return f"{query['partner_column'] if query['kind'] == 'same_row' else query['partner_row']:.0f}"


def _draw_arc(axes: Axes, axis: str, line: int, partner: float, color: str, weight: float) -> None:
    """From a line to its partner: left of the rows, above the columns. It bends by its length, within the margin."""
    ends = [(0.4, line), (0.4, partner)] if axis == "row" else [(line, 0.4), (partner, 0.4)]
    bend = min(0.5, 2.2 / abs(line - partner)) * np.sign(partner - line) * (-1 if axis == "column" else 1)
    look = {"arrowstyle": "-|>,head_length=2,head_width=1.2", "linewidth": 0.4 + weight, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(*ends, connectionstyle=f"arc3,rad={bend}", color=color, clip_on=False, **look))


def draw_key(figure: Figure, kinds: set[str], place: str) -> None:
    handles = [Rectangle((0, 0), 1, 1, color=KINDS[kind]["color"], linewidth=0) for kind in KINDS if kind in kinds]
    labels = [KINDS[kind]["label"] for kind in KINDS if kind in kinds]
    title = "a masked entry is predicted if it observes …"
    legend = figure.legend(handles, labels, loc=place, ncols=min(3, len(labels)), title=title, handlelength=1)
    legend.get_title().set_fontsize(7.5)


@style.styled
def draw(table: pd.DataFrame, task: Task) -> Figure:
    """Above, the loss with the levels of k partners, and attention to the later partner; then the maps; below, what
    flips a prediction, and what becomes of queries by what is observed."""
    panels = dict(list(table.groupby("panel")))
    maps = panels["map"]
    shown = dict(maps.drop_duplicates("label").set_index("label")["step"].astype(int))
    figure = style.new_figure(style.TEXT_WIDTH, 6.6)
    above, middle, below = figure.subfigures(3, 1, height_ratios=[2.1, 2.25, 2.0])
    loss, attention = above.subplots(1, 2, width_ratios=[1.25, 1])
    _draw_loss(loss, panels, shown, task)
    _draw_attention(attention, panels.get("attention"), shown)
    for axes, (label, step) in zip(middle.subplots(1, len(shown)), shown.items(), strict=True):
        of_step = maps[(maps["label"] == label) & (maps["step"] == step)]
        draw_map(axes, of_step, task)
        axes.set_title(f"{label}, step {step}", pad=7)
    draw_key(middle, set(maps["kind"]), "outside lower center")
    flips, levels, ratios = below.subplots(1, 3)
    _draw_flips(flips, panels.get("flip"), shown["rest"])
    _draw_conditions(levels, panels["condition"], task)
    _draw_ratios(ratios, panels.get("ratio"))
    return figure


def _draw_loss(axes: Axes, panels: dict[str, pd.DataFrame], shown: dict[str, int], task: Task) -> None:
    loss, level = panels["loss"], panels["level"]
    axes.plot(loss["step"], loss["mse_masked"], color="#D55E00", linewidth=0.9, label="masked entries (training)")
    axes.plot(level["step"], level["predicted"], "_", color="black", markersize=7, label="predicted from the map")
    for k, name in enumerate(("predicting 0", "one partner", "two partners", "three partners")):
        height = task.entry_variance * task.mask_probability**k
        axes.axhline(height, color=style.GREY, linewidth=0.7, linestyle=(0, (3, 2)), zorder=0)
        axes.annotate(
            name, (1.01, height), xycoords=("axes fraction", "data"), va="center", size=6, annotation_clip=False
        )
    for label, step in shown.items():
        axes.axvline(step, color="0.8", linewidth=0.6, zorder=0)
        axes.annotate(label, (step, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", size=6)
    axes.set(yscale="log", xlabel=style.STEP_LABEL, ylabel=style.MSE_LABEL, xlim=(0, None))
    axes.legend(loc="lower left")


def _draw_attention(axes: Axes, rows: pd.DataFrame | None, shown: dict[str, int]) -> None:
    axes.set(xlabel=style.STEP_LABEL, ylim=(0, 1.03), ylabel="first layer, share")
    axes.set_title(f"towards the partners at step {shown['rest']}")
    if rows is None:
        return
    axes.plot(rows["step"], rows["share_largest"], "o-", color="black", mfc="white", label="queries with most on it")
    axes.plot(rows["step"], rows["attention"], "s-", color="#0072B2", markersize=3, label="attention to it")
    axes.plot(rows["step"], rows["others"], "-", color="#56B4E9", label="to others of its lines")
    axes.axhline(rows["chance"].iloc[0], color=style.GREY, linewidth=0.7, linestyle=(0, (1, 1)))
    axes.set_xlim(0, None)
    axes.legend(loc="upper left", fontsize=6, handlelength=1.2, borderaxespad=0)


def _draw_flips(axes: Axes, rows: pd.DataFrame | None, step: int) -> None:
    """The slope of predictions on those before, for each role."""
    axes.axvline(1, color=style.GREY, linewidth=0.7, linestyle=(0, (1, 1)))
    axes.axvline(-1, color=style.GREY, linewidth=0.7, linestyle=(0, (1, 1)))
    axes.axvline(0, color="0.85", linewidth=0.7)
    axes.set(xlim=(-1.35, 1.35), ylim=(len(ROLES) - 0.5, -0.7), xlabel="prediction after / before (slope)")
    axes.set_yticks(range(len(ROLES)), ROLES.values())
    axes.set_title(f"sign of one observed entry flipped,\nstep {step}")
    if rows is None:
        axes.text(0, 1.5, "no query has a partner", ha="center")
        return
    for place, role in enumerate(ROLES):
        row = rows[rows["role"] == role]
        if len(row):
            color = "#D55E00" if role == "partner" else "0.35"
            style.draw_errors(axes, row["stays"], [place], xerr=row["stays_se"], fmt="o", color=color)
            text = f"{100 * row['flipped'].iloc[0]:.0f} % change sign"
            axes.annotate(text, (0, place), xytext=(0, 5), textcoords="offset points", ha="center", size=6, color=color)


def _draw_conditions(axes: Axes, rows: pd.DataFrame, task: Task) -> None:
    names = [name for name in CONDITIONS if name in set(rows["condition"])]
    rows = rows.set_index("condition").loc[names]
    place = np.arange(len(names))
    colors = [CONDITIONS[name]["color"] for name in names]
    axes.barh(place, rows["mse_masked"] / task.entry_variance, color=colors, edgecolor="none", height=0.6)
    error = style.STANDARD_ERRORS * rows["mse_masked_se"] / task.entry_variance
    axes.errorbar(rows["mse_masked"] / task.entry_variance, place, xerr=error, fmt="none", color="0.3", elinewidth=0.6)
    share = rows["count"] / rows["count"].sum()
    labels = [f"{CONDITIONS[name]['label']} ({100 * share[name]:.1f} %)" for name in names]
    axes.set_yticks(place, labels)
    axes.axvline(1, color=style.GREY, linewidth=0.7, linestyle=(0, (1, 1)))
    axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, 1.3), xlabel="masked-entry MSE / E[x²]")
    axes.set_title("error, by what is observed")


def _draw_ratios(axes: Axes, rows: pd.DataFrame | None) -> None:
    axes.set(xlabel="prediction / truth", ylabel="share of entries")
    axes.set_title("predictions")
    if rows is None:
        return
    for name, of_condition in rows.groupby("condition"):
        look = {**CONDITIONS[name], "label": None}
        axes.step(of_condition["ratio"], of_condition["share"], where="mid", linewidth=0.9, **look)
