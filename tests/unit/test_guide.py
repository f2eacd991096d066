"""The guide to the figures and the README's table, from a small catalogue."""

import math
from importlib import import_module
from pathlib import Path

import pandas as pd
import yaml

from abrupt.figures.guide import NOTHING, guide
from abrupt.figures.observation import Observation
from abrupt.readme import BEGIN, END, current_readme, readme_table, with_measured, with_table

ROOT = Path(__file__).resolve().parents[2]
CATALOGUED = yaml.safe_load((ROOT / "workflow/figures.yaml").read_text()).items()
CATALOGUE = {
    "drop": {"paper": "Figure 1", "category": "1. A", "shows": "the drop", "claims": [1, 2], "target": "figures"},
    "matrix": {"paper": "", "category": "1. A", "shows": "a matrix", "claims": [], "target": "sweeps"},
}


def finding(figure, quantity, verdict, measured=0.25):
    about = {"claim": 1, "criterion": "< 1", "unit": "ratio", "per_seed": "seed 0: no drop"}
    return {"figure": figure, "quantity": quantity, "verdict": verdict, "measured": measured, **about}


def test_what_held_and_what_did_not_are_told_apart():
    claims = pd.DataFrame([finding("drop", "onset", "held"), finding("drop", "sharpness", "not held", math.nan)])
    (drop,) = guide({"drop": CATALOGUE["drop"]}, claims, {}).to_dict("records")
    assert drop["in_this_run"] == "onset: 0.25 ratio (claim 1: < 1)"
    assert drop["disagrees"] == "sharpness: seed 0: no drop (claim 1: < 1)"


def test_figure_of_which_nothing_held_points_to_the_disagreements():
    claims = pd.DataFrame([finding("drop", "onset", "not held")])
    (drop,) = guide({"drop": CATALOGUE["drop"]}, claims, {}).to_dict("records")
    assert drop["in_this_run"] == NOTHING


def test_observation_stands_before_the_findings():
    claims = pd.DataFrame([finding("drop", "onset", "held")])
    (drop,) = guide({"drop": CATALOGUE["drop"]}, claims, {"drop": Observation("it falls")}).to_dict("records")
    assert drop["in_this_run"] == "it falls; onset: 0.25 ratio (claim 1: < 1)"


def test_figure_without_claims_says_what_was_observed_in_it():
    claims = pd.DataFrame([finding("drop", "onset", "held")])
    _, matrix = guide(CATALOGUE, claims, {"matrix": Observation("3 of 9 masked", "2 of 9")}).to_dict("records")
    assert (matrix["in_this_run"], matrix["disagrees"]) == ("3 of 9 masked", "2 of 9")


def test_a_finding_without_a_verdict_says_so():
    (row,) = guide(
        {"drop": CATALOGUE["drop"]}, pd.DataFrame([finding("drop", "onset", "not tested yet")]), {}
    ).itertuples()
    assert row.in_this_run == "onset: 0.25 ratio (claim 1: not tested yet)"


def test_a_finding_without_a_number_is_named_without_one():
    row = finding("drop", "cause", "not tested yet", math.nan) | {"per_seed": math.nan}  # as read from a CSV
    (row,) = guide({"drop": CATALOGUE["drop"]}, pd.DataFrame([row]), {}).itertuples()
    assert row.in_this_run == "cause (claim 1: not tested yet)"


def test_readme_table_has_a_row_for_each_figure_and_its_cost_at_each_scale():
    costs = pd.DataFrame({"figure": ["drop"], "scale": ["cpu"], "job_minutes": [81.04]})
    header, _, drop, matrix = readme_table(CATALOGUE, costs).splitlines()
    assert header.endswith("| `smoke` | `cpu` | `paper` |")
    assert drop == "| `drop` | `figures` | Figure 1 | the drop | 1, 2 | not measured | 81.0 | not measured |"
    assert matrix == "| `matrix` | `sweeps` |  | a matrix |  | not measured | not measured | not measured |"


def test_only_what_is_between_the_marks_is_replaced():
    assert with_table(f"a\n{BEGIN}\nold\n{END}\nb\n", "new") == f"a\n{BEGIN}\nnew\n{END}\nb\n"


def test_measured_costs_replace_those_of_the_same_figure_and_scale_alone():
    old = pd.DataFrame({"figure": ["a", "a", "b"], "scale": ["smoke", "cpu", "cpu"], "job_minutes": [1.0, 2.0, 3.0]})
    new = pd.DataFrame({"figure": ["a", "c"], "scale": ["cpu", "cpu"], "job_minutes": [4.0, 5.0]})
    costs = with_measured(old, [new]).set_index(["figure", "scale"])["job_minutes"].to_dict()
    assert costs == {("a", "smoke"): 1, ("a", "cpu"): 4, ("b", "cpu"): 3, ("c", "cpu"): 5}


def test_readme_is_what_make_readme_gives():
    assert (ROOT / "README.md").read_text() == current_readme(ROOT), "run `make readme`"


def test_every_figure_has_code_and_a_caption():
    for figure, _ in CATALOGUED:
        assert (ROOT / f"workflow/abrupt/figures/{figure}.py").exists(), figure
        assert (ROOT / f"workflow/report/{figure}.rst").exists(), figure


def test_observed_figures_are_those_that_observe():
    observing = [name for name, _ in CATALOGUED if hasattr(import_module(f"abrupt.figures.{name}"), "observe")]
    assert [name for name, about in CATALOGUED if about["observed"]] == observing


def test_figures_without_claims_and_of_runs_of_their_own_are_observed():
    silent = [name for name, about in CATALOGUED if not about["observed"]]
    assert [name for name, about in CATALOGUED if not about["claims"] and name in silent] == []
    assert [name for name, about in CATALOGUED if about["target"] != "figures" and name in silent] == []


def test_catalogue_is_in_the_order_of_the_report():
    categories = [about["category"] for _, about in CATALOGUED]
    assert categories == sorted(categories)
