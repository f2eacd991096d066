"""What the figures on which no claim rests say of themselves, from small tables."""

import math

import numpy as np
import pandas as pd
import pytest

from abrupt.figures import (
    activation_patching,
    attention_maps,
    component_switching,
    fig03_nuclear_norm,
    fig05_masked_attention,
    fig06_probes,
    fig09_token_progress,
    fig11_gpt_loss,
    fig12_gpt_attention,
    fig15_heads,
    fig18_gaussian,
    fig19_out_of_distribution,
    fig21_singular_vector,
    head_ablation,
    head_specialisation,
    permuted_positions,
    prediction,
    style,
    table2_full_rank,
    table3_regularised,
    task,
)
from abrupt.figures.observation import against

TASK = {"rows": 3, "columns": 4, "rank": 1, "factor_law": "uniform", "factor_scale": 1}
SAME_ROW = (np.kron(np.eye(3), np.ones((4, 4))) - np.eye(12)) / 3
SAME_COLUMN = (np.kron(np.ones((3, 3)), np.eye(4)) - np.eye(12)) / 2
UNIFORM = np.full((12, 12), 1 / 12)
STEP = np.arange(50, 3001, 50)


def loss(drop_step):
    """A training curve that falls at `drop_step`, or never."""
    fall = 0 * STEP if drop_step is None else 1 / (1 + np.exp((drop_step - STEP) / 40))
    return pd.DataFrame({"seed": 0, "step": STEP, "mse_masked": (1 - 0.97 * fall) / 9})


def test_what_the_paper_reports_is_said_where_it_holds():
    assert against("it falls", "it does", True) == ("it falls; as the paper reports, it does", "")


def test_what_the_paper_reports_is_a_disagreement_where_it_does_not_hold():
    assert against("it rises", "it falls", False) == ("it rises", "it falls")


def test_values_of_several_seeds_are_a_range():
    assert style.values_text([0.12345, 0.2]) == "0.123–0.2" and style.values_text([0.12345]) == "0.123"


@pytest.mark.parametrize(("onset", "early"), [(2000, 1000), (500, 0), (math.nan, 0)])
def test_before_is_the_last_step_well_before_the_drop_or_the_first(onset, early):
    table = pd.DataFrame({"seed": 0, "step": [0, 1000, 1900, 3000], "onset": onset})
    assert list(style.before_and_last(table)) == [f"at step {early}", "at step 3000"]


def test_masked_entries_of_the_matrix_are_counted():
    table = pd.DataFrame({"token": [0, 7, 0], "value": [0.5, -0.25, 0.1]})
    here = task.observe(table, TASK).here
    assert here.startswith("2 of 3 entries of this matrix are masked") and here.endswith("between -0.25 and 0.5")


def test_errors_of_the_matrix_are_those_of_each_step():
    rows = {"label": "last", "observed": [True, False, False], "truth": [1.0, 1.0, 0.0], "prediction": [1.1, 0.0, 0.0]}
    here = prediction.observe(pd.DataFrame({"step": 9, **rows}), TASK).here
    assert "0.5 at masked entries, 0.01 at observed entries at step 9 (last)" in here


def test_full_rank_matrices_have_the_worst_value_and_the_price_of_mask():
    rows = {"token_value": [math.nan, 0.4, 0.9], "mse_to_value": [5, 0.02, 0.01], "mse_to_truth": [0.5, 7, 7]}
    tables = [
        pd.DataFrame({"seed": 0, "onset": 500, "step": step, "mse_if_copying": 0.25, **rows}) for step in (0, 900)
    ]
    first, last = table2_full_rank.observe(pd.concat(tables), TASK).here.split("; ")
    assert "at most 0.02 with" in first and "2 times that of predicting 0" in first and last.startswith("at step 900")


def snapshots(**maps):
    """Of one layer of two heads, of which one is uniform and one as given."""
    return pd.concat(
        attention_maps.tidy_maps(np.stack([UNIFORM, own])[None], step=step, label=label.replace("_", " "))
        for step, (label, own) in enumerate(maps.items())
    )


def test_strongest_head_is_in_units_of_uniform_attention():
    lifts = attention_maps.strongest_lifts(np.stack([UNIFORM, SAME_ROW])[None], TASK)
    # 3 of 12 keys are on the query's row, 2 on its column.
    assert lifts == pytest.approx({"same row": 4, "same column": 1})


BOTH = (SAME_ROW + SAME_COLUMN) / 2


@pytest.mark.parametrize(
    ("before", "last", "agrees"),
    [(UNIFORM, BOTH, True), (BOTH, BOTH, False), (UNIFORM, UNIFORM, False), (UNIFORM, SAME_ROW, False)],
)
def test_maps_agree_with_the_paper_if_both_structures_are_new(before, last, agrees):
    seen = attention_maps.observe(snapshots(before_the_drop=before, last=last), TASK)
    assert (seen.disagrees == "") == agrees


@pytest.mark.parametrize(("last", "agrees"), [(BOTH, True), (UNIFORM, False)])
def test_maps_without_a_step_before_the_drop_are_not_said_to_agree(last, agrees):
    seen = attention_maps.observe(snapshots(mid_drop=UNIFORM, last=last), TASK)
    assert "as the paper reports" not in seen.here and (seen.disagrees == "") == agrees


def test_masked_queries_on_the_observed_entry_of_their_line():
    observed = np.ones(12, dtype=bool)
    observed[[0, 2, 3]] = False  # of row 1 entry 2 alone is observed; of its columns entries below
    tables = []
    for pattern in ("masked_rows", "masked_columns"):
        table = attention_maps.tidy_maps(np.stack([UNIFORM, SAME_ROW])[None], pattern=pattern)
        tables.append(table.assign(key_observed=observed[table["key"] - 1]))
    here = fig05_masked_attention.observe(pd.concat(tables), TASK).here
    assert "of their row, L1H2: 0.33; of their column, L1H1: 0.17" in here


@pytest.mark.parametrize(("at", "early"), [(2000, 0), (500, 1)])
def test_heads_that_specialise_well_before_the_drop_are_a_disagreement(at, early):
    curve = loss(2000).rename(columns={"mse_masked": "value"}).assign(quantity="mse_masked")
    head = {"seed": 0, "layer": 1, "head": 2, "group": "same_row", "quantity": "same_row", "specialised_at": at}
    seen = head_specialisation.observe(pd.concat([curve, pd.DataFrame([head])]), TASK)
    assert "heads that specialise: 1 (1 same row)" in seen.here and f"{early} of them well before" in seen.here
    assert bool(seen.disagrees) == bool(early)


def ablated():
    rows = [
        {"target": "none", "heads": 0, "mse_masked": 0.1},
        *(
            {
                "target": "head",
                "heads": 1,
                "layer": 1,
                "head": head,
                "group": "self",
                "replacement": how,
                "mse_masked": mse,
            }
            for head, how, mse in [
                (1, "batch_mean", 0.2),
                (2, "batch_mean", 0.3),
                (1, "uniform", 0.5),
                (2, "uniform", 0),
            ]
        ),
        {"target": "group", "group": "self", "heads": 2, "replacement": "batch_mean", "mse_masked": 0.7},
        {"target": "group", "group": "self", "heads": 2, "replacement": "uniform", "mse_masked": 0.9},
    ]
    return pd.DataFrame(rows).assign(seed=0, step=9)


@pytest.mark.parametrize(
    "worst",
    [
        "L1H2 (self) by mean map: × 3",
        "L1H1 (self) by uniform attention: × 5",
        "all on self (2) by mean map: × 7",
        "all on self (2) by uniform attention: × 9",
    ],
)
def test_worst_ablation_is_named_with_its_factor(worst):
    before = ablated().assign(step=1, mse_masked=77.0)
    assert worst in head_ablation.observe(pd.concat([before, ablated()]), TASK).here


def test_patching_names_the_layer_of_the_change_and_the_strongest_head():
    hidden = {"site": "hidden_masked", "layer": [0, 1, 2, 3], "effect_masked": [0, 0.4, 0.6, 1.0]}
    heads = {"site": "head", "layer": 2, "head": [1, 2], "effect_masked": [0.2, 0.3]}
    table = pd.concat([pd.DataFrame(hidden), pd.DataFrame(heads)]).assign(seed=0, step=9)
    here = activation_patching.observe(table, TASK).here
    assert "from layer 2 on" in here and "L2H2 (effect 0.3)" in here


def switched(se=0.0, **errors):
    """Masked-entry errors of the models before and after the drop, by component."""
    rows = [
        {"seed": 0, "receiver": way, "step": 1, "donor_step": 9, "component": name, "mse_masked": mse}
        for name, both in errors.items()
        for way, mse in zip(("before", "after"), both, strict=True)
    ]
    return pd.DataFrame(rows).assign(mse_masked_se=se)


def test_switching_names_the_component_with_the_largest_effect_each_way():
    table = switched(none=(0.1, 0.01), attention=(0.05, 0.02), both_embeddings=(0.2, 0.4))
    here = component_switching.observe(table, TASK).here
    assert "MSE is lowered most by attention, × 0.5 of" in here
    assert "MSE is raised most by both embeddings, × 40 of" in here


@pytest.mark.parametrize(("change", "changed"), [((0.09, 0.01), "lowered"), ((0.05, 0.02), "raised")])
def test_switching_names_no_component_whose_effect_is_within_the_errors(change, changed):
    # sqrt(2) * 2 * 0.01: 0.028 is needed.
    table = switched(0.01, none=(0.1, 0.01), attention=change)
    assert f"{changed} by no component" in component_switching.observe(table, TASK).here


def test_token_scores_are_those_before_the_drop_and_at_the_end():
    value = np.arange(-5, 6) / 10
    random = np.random.default_rng(0).normal(size=(2, 11))
    tables = [
        pd.DataFrame(
            {"seed": 0, "onset": 500, "step": step, "value": value, "norm": norm, "distance": 1.0}
            | {"pc1": np.abs(value), "pc2": np.sign(value), "pc3": random[0]}
        )
        for step, norm in ((0, value), (900, np.abs(value)))
    ]
    first, last = fig09_token_progress.observe(pd.concat(tables), TASK).here.split("; ")
    assert "correlate by -1" in first and "correlate by 1" in last


def test_singular_vector_has_the_best_layer_of_each_step():
    rows = {"entries": "all", "layer": [math.nan, 1, 2], "relative_mse": [1.0, 0.5, 0.6]}
    tables = [
        pd.DataFrame({"seed": 0, "onset": 500, "step": step, **rows, "abs_cosine": [0.9, *cosines]})
        for step, cosines in ((0, (0.3, 0.2)), (900, (0.3, 0.4)))
    ]
    first, last = fig21_singular_vector.observe(pd.concat(tables), TASK).here.split("; ")
    assert "layer 1 is read best: mean |cosine| 0.3" in first and "layer 2 is read best: mean |cosine| 0.4" in last


def test_best_lambda_is_set_against_both_levels():
    rows = [("regularised_nuclear_norm", 0.01, 0.6), ("regularised_nuclear_norm", 0.1, 0.4)]
    rows += [("model", math.nan, 0.1), ("nuclear_norm", math.nan, 0.8)]
    table = pd.DataFrame(rows, columns=["method", "value", "mse_masked"]).assign(seed=0)
    here = table3_regularised.observe(table, TASK).here
    assert "λ = 0.1, 0.4: × 4 that of the model and × 0.5 that of minimisation without it" in here


def test_sweep_says_the_onset_with_every_member():
    table = pd.concat([loss(1500).assign(member=1), loss(None).assign(member=4)])
    here = fig15_heads.observe(table, TASK).here
    assert "1 head: step 1400" in here and "4 heads: none within 3000 steps" in here


def test_gaussian_matrices_have_an_onset_and_a_last_loss():
    table = loss(1500).assign(mse_all=np.linspace(1, 0.004, len(STEP)))
    assert fig18_gaussian.observe(table, TASK).here == "onset of the drop: step 1400; last MSE over all entries 0.004"


def test_decoder_has_its_onset_and_last_accuracies():
    falls = loss(1500)["mse_masked"] * 9
    table = pd.DataFrame({"seed": 0, "step": STEP, "cross_entropy_observed": falls, "marginal_entropy": 1.0})
    here = fig11_gpt_loss.observe(table.assign(accuracy_observed=STEP / 3000, accuracy_masked=0.25), TASK).here
    assert here == "copying from step 1400; accuracy at the last step: 1 at observed entries, 0.25 at masked entries"


def test_head_that_copies_is_found_in_any_layer():
    rows = [
        {"step": 9, "label": "last", "layer": layer, "head": head, "query": query, "key": key}
        | {"attention": 0.7 if (layer, head) == (1, 2) and query == key else 0.1}
        for layer in (1, 2)
        for head in (1, 2)
        for query in (1, 2)
        for key in (1, 2, 3, 4)
    ]
    assert "L1H2 with 0.7 at step 9 (last)" in fig12_gpt_attention.observe(pd.DataFrame(rows), TASK).here


def test_every_seed_is_named():
    tables = [ablated().assign(seed=seed) for seed in (0, 1)]
    here = head_ablation.observe(pd.concat(tables), TASK).here
    assert all(f"seed {seed}: " in here for seed in (0, 1))


def compared(axis, ratios, seed=0):
    """A summary in which the minimiser's error is 0.5 everywhere, and the model's these multiples of it."""
    rows = [
        {"axis": axis, "value": value, "seed": seed, "method": method, "mse_all": error}
        for value, ratio in ratios.items()
        for method, error in (("model", 0.5 * ratio), ("nuclear_norm", 0.5), ("alternating_least_squares", 9))
    ]
    return pd.DataFrame(rows)


def test_mask_probabilities_are_told_apart_by_who_has_less_error():
    here = fig03_nuclear_norm.observe(compared("mask_probability", {0.1: 3, 0.3: 0.2, 0.5: 0.9}), TASK).here
    assert here.endswith("seed 0: less at 0.3 (× 0.2), 0.5 (× 0.9); not less at 0.1 (× 3)")


def test_model_that_has_less_error_nowhere_is_said_to():
    here = fig03_nuclear_norm.observe(compared("mask_probability", {0.1: 3}), TASK).here
    assert here.endswith("seed 0: less at none; not less at 0.1 (× 3)")


def test_each_axis_has_its_worst_shift_with_the_range_over_seeds():
    tables = [compared("mask_probability", {0.1: 3, 0.3: 0.2}), compared("mask_probability", {0.1: 5, 0.3: 4}, seed=1)]
    tables += [compared("factor_scale.laplace", {0.25: 2, 0.5: 7}, seed) for seed in (0, 1)]
    here = fig19_out_of_distribution.observe(pd.concat(tables), TASK).here
    assert here.endswith("s, factors Laplace(0, s): 7 at 0.5; mask probability: 3–5 at 0.1")


def probed(errors, target="masked_value", entries="masked"):
    """Probes with these relative errors of two layers, by step; the mean target's is 1."""
    rows = [
        {"seed": 0, "step": step, "target": target, "entries": entries, "layer": layer, "relative_mse": error}
        for step, of_layers in errors.items()
        for layer, error in zip((math.nan, 0, 1), (1.0, *of_layers), strict=True)
    ]
    return pd.DataFrame(rows)


def test_probes_have_their_best_layer_and_the_step_at_which_half_of_it_is_there():
    here = fig06_probes.observe(probed({0: (1.0, 1.1), 100: (0.6, 0.5), 200: (0.9, 0.2)}), TASK).here
    assert here.endswith("value of a masked entry, seed 0: 0.2 in layer 1 at step 200, half of that gain by step 100")


def test_probes_that_read_nothing_have_no_such_step():
    here = fig06_probes.observe(probed({0: (0.9, 1.0), 100: (1.2, 1.1)}), TASK).here
    assert here.endswith("1.1 in layer 1 at step 100")


@pytest.mark.parametrize("target", ["masked_row", "masked_column"])
def test_probes_of_lines_are_those_of_all_entries(target):
    table = pd.concat([probed({0: (0.5, 0.4)}, target, entries) for entries in ("all", "observed")])
    assert fig06_probes.observe(table, TASK).here.count("0.4 in layer 1") == 1


def test_permuted_positions_are_set_against_predicting_0():
    errors = {"none": 0.01, "within_rows": 2.0, "within_columns": 0.5, "everywhere": 3.0}
    rows = [
        {"seed": 0, "step": step, "kind": kind, "mse_masked": (share + change) / 9 if step else 1.0}
        for step in (0, 900)
        for kind, share in errors.items()
        for change in (-0.001, 0.001)
    ]
    here = permuted_positions.observe(pd.DataFrame(rows), TASK).here
    assert here.endswith("0.01 not permuted, 2 within rows, 0.5 within columns")
