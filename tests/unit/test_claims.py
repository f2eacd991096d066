import html
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from abrupt.claims import CLAIMS, IN_OWN_RUNS, SeedRun, claims_by_figure, findings
from abrupt.claims.finding import FOR_COMPARISON, Criterion, Value, exactly, ratio, verdict_over_seeds
from abrupt.claims.own_runs import introduction_of_runs, own_runs, plateau_level, strongest_weights
from abrupt.claims.verdicts import claim_verdict, claims_html, claims_markdown, claims_table, introduction
from abrupt.scores.drop import find_copying
from abrupt.task import TASK_COLUMNS, Task

TASK = Task(7, 7, rank=2, mask_probability=0.3, decimals=2, max_value=10, factor_law="uniform", factor_scale=1)
RANK = TASK.rank
PLATEAU = TASK.entry_variance
ONSET, LAST = 10_000, 100_000
STEP = np.arange(500, LAST + 1, 500)
MATRICES = 200


def curve(mse_masked, mse_observed=0.002):
    return pd.DataFrame({"step": STEP, "mse_masked": mse_masked, "mse_observed": mse_observed})


def drop_at(onset):
    """On the plateau up to `onset`, then down to 2 % of it within 1500 steps."""
    return PLATEAU * np.interp(STEP, [onset, onset + 1500], [1.0, 0.02])


def decay(time=2000):
    return PLATEAU * np.exp(-STEP / time)


def slow_ramp():
    """On the plateau at first, then a straight line that passes 90 % of it where the drop of `drop_at` begins."""
    start = 0.75 * ONSET
    return PLATEAU * (1 - 0.1 * (STEP - start) / (ONSET - start)).clip(min=0.001, max=1)


def flat():
    return np.full(len(STEP), PLATEAU)


UNIFORM = {"same_row": 6 / 49, "same_column": 6 / 49, "self": 1 / 49, "observed": 0.7, "masked": 0.3}


def scores_at(step, **lifts):
    """Head scores of two heads: uniform, but for the lifts (times the uniform share) of the named groups."""
    rows = [
        {
            "step": step,
            "mask_pattern": pattern,
            "layer": 1,
            "head": head,
            "query_group": query_group,
            "key_group": key_group,
            "share": uniform * (lifts.get(key_group, 1.0) if head == 1 else 1.0),
            "uniform_share": uniform,
        }
        for pattern in ("random", "masked_rows")
        for head in (1, 2)
        for query_group in ("all", "observed", "masked")
        for key_group, uniform in UNIFORM.items()
    ]
    return pd.DataFrame(rows)


STRUCTURED = {"same_row": 5.0, "same_column": 5.0, "masked": 0.1}


def head_scores(before=None, after=None):
    return pd.concat([scores_at(0), scores_at(5000, **(before or {})), scores_at(LAST, **(after or {}))])


def completion(final_mse, nuclear_norm=5.0, matrices=MATRICES):
    spread = 1 + 0.1 * np.sin(np.arange(matrices))
    rows = {"matrix": range(matrices), "mse_all": final_mse * spread, "nuclear_norm": nuclear_norm * spread}
    return pd.DataFrame({"step": LAST, **rows, "nuclear_norm_truth": 5.0})


def intervention(mse_to_value=0.001, ratio=1.0, of_mask=0.001):
    values = np.array([math.nan, 0.44, -0.24])
    if_copying = PLATEAU + np.nan_to_num(values) ** 2
    tables = [
        pd.DataFrame(
            {
                "step": step,
                "inputs": "low_rank",
                "token_value": values,
                "mse_to_value": np.where(np.isnan(values) & (step == 5000), of_mask, to_value),
                "mse_to_truth": if_copying * share,
                "mse_if_copying": if_copying,
            }
        )
        # After the drop nothing is copied any more.
        for step, to_value, share in ((5000, mse_to_value, ratio), (LAST, 0.3, 0.2))
    ]
    return pd.concat(tables)


def nuclear_norm(mse=0.0113, norm=4.0):
    # Not the spread of `completion`: the paired difference has one of its own.
    spread = 1 + 0.1 * np.cos(3 * np.arange(MATRICES))
    rows = {"method": "nuclear_norm", "matrix": range(MATRICES), "mse_all": mse * spread, "nuclear_norm": norm * spread}
    return pd.DataFrame(rows)


def components(**changed):
    curves = {
        "token_embedding": decay(),
        "mlp": decay(),
        "attention": drop_at(4000),
        "position_embedding": drop_at(30_000),
        "both_embeddings": drop_at(8000),
    }
    curves |= changed
    # None is a run that ended on its plateau, far too early to decide.
    return {name: curve(flat())[STEP <= 500] if values is None else curve(values) for name, values in curves.items()}


VALUES = np.round(np.arange(-1, 1.005, 0.01), 2)


def tokens(norm=np.abs, first=np.abs, second=np.sign):
    """Token embeddings at the last step whose norm and principal components are these functions of the value;
    before it they have none of the structure."""
    random = np.random.default_rng(0)

    def at(step, of_norm, pc1, pc2):
        noise = random.normal(size=(2, len(VALUES)))
        columns = {"value": VALUES, "norm": of_norm, "distance": 3.0, "pc1": pc1, "pc2": pc2, "pc3": noise[0]}
        return pd.DataFrame({"seed": 0, "step": step, **columns})

    before = at(0, *random.normal(size=(3, len(VALUES))))
    return pd.concat([before, at(LAST, norm(VALUES), first(VALUES), second(VALUES))])


def places(column=0.4, row=0.1):
    """Position embeddings with these silhouettes at the last step, and the other way round before it."""
    tables = [
        pd.DataFrame(
            {
                "seed": 0,
                "step": step,
                "distance": 1.0,
                "row_part": 0.1,
                "column_part": 0.5,
                "silhouette_row": of_row,
                "silhouette_column": of_column,
            },
            index=range(49),
        )
        for step, of_row, of_column in ((0, column, row), (LAST, row, column))
    ]
    return pd.concat(tables)


def probed(row_errors=(1.0, 0.95, 0.8, 0.4, 0.3)):
    """Probes of every layer at the last step; before it, and of other entries and targets, they read nothing."""
    rows = [
        {"target": target, "entries": entries, "layer": layer, "step": step, "relative_mse": error}
        for step in (0, LAST)
        for target in ("masked_row", "masked_column")
        for entries in ("all", "masked")
        for layer, own in enumerate(row_errors)
        for error in [own if (step, target, entries) == (LAST, "masked_row", "all") else 1 + 0.01 * layer]
    ]
    mean = {"target": "masked_row", "entries": "all", "layer": math.nan, "step": LAST, "relative_mse": 1.0}
    return pd.DataFrame([*rows, mean])


def permuted(everywhere=1.5 * PLATEAU, swapped=0.001):
    kinds = {"none": 0.001, "rows_and_columns": swapped, "everywhere": everywhere}
    return pd.DataFrame({"kind": kinds.keys(), "mse_masked": kinds.values(), "step": LAST})


# Axis and value -> MSE of the model over that of nuclear-norm minimisation.
SHIFTS = {("rank", RANK + 1): 1.5, ("rows", 6): 0.5, ("rows", 8): 1.8, ("columns", 6): 10.0, ("columns", 8): 5.0}


def tables(**changed):
    """Tables of a run in which every claim holds, but for those given."""
    return {
        "training": curve(drop_at(ONSET)),
        "components": components(),
        "head_scores": head_scores(after=STRUCTURED),
        "completion": completion(0.002),
        "token_intervention": intervention(),
        "baselines": nuclear_norm(),
        "token_embeddings": tokens(),
        "position_embeddings": places(),
        "probes": probed(),
        "permuted_positions": permuted(),
        **changed,
    }


def judged(*changes, scale="cpu", task=TASK):
    """The claims table of one run for each dict of changed tables."""
    runs = {}
    for seed, changed in enumerate(changes):
        shifts = SHIFTS | changed.get("shifts", {})
        run_tables = tables(**{name: table for name, table in changed.items() if name != "shifts"})
        for name in ("completion", "baselines"):
            # The task's own matrices are those that count for claim 4, not those of a shift.
            own = run_tables[name].assign(**{column: getattr(task, column) for column in TASK_COLUMNS})
            shifted = [
                own.assign(**{axis: value}, mse_all=ratio if name == "completion" else 1.0, nuclear_norm=9.0)
                for (axis, value), ratio in shifts.items()
                if ratio is not None
            ]
            run_tables[name] = pd.concat([own, *shifted])
        runs[seed] = SeedRun(task, **run_tables)
    return claims_table(list(findings(runs, scale, f"results/{scale}")))


def failed(table):
    return set(table.loc[table["verdict"] == "not held", "claim"])


def undecided(table):
    return set(table.loc[table["verdict"] == "not decided", "claim"])


def finding(table, quantity):
    """The one row whose quantity begins so."""
    (row,) = table[table["quantity"].str.startswith(quantity)].itertuples()
    return row


def test_run_that_has_every_effect_holds_every_tested_claim():
    table = judged({})
    assert set(table["verdict"]) == {"held", "not tested at this scale", "not tested yet", IN_OWN_RUNS, FOR_COMPARISON}
    assert set(table["claim"]) == set(range(1, 13))


BROKEN = {
    "smooth decay": ({"training": curve(slow_ramp())}, 1),
    "observed entries not copied": ({"training": curve(drop_at(ONSET), mse_observed=0.5 * PLATEAU)}, 2),
    "masked entries not predicted as 0": ({"token_intervention": intervention(of_mask=0.02)}, 2),
    "token value not copied": ({"token_intervention": intervention(mse_to_value=0.02)}, 2),
    "error under intervention not that of copying": ({"token_intervention": intervention(ratio=0.8)}, 2),
    "high final error": ({"completion": completion(0.008)}, 3),
    "worse than nuclear norm": ({"baselines": nuclear_norm(mse=0.001)}, 4),
    "nuclear norm that of the minimiser": ({"completion": completion(0.002, nuclear_norm=4.0)}, 4),
    "masked entries off the plateau's level": ({"training": curve(drop_at(ONSET).clip(max=0.94 * PLATEAU))}, 2),
    "heads uniform at the end": ({"head_scores": head_scores()}, 5),
    "no head on the same column": ({"head_scores": head_scores(after={"same_row": 5.0, "masked": 0.1})}, 5),
    "no head avoids masked entries": ({"head_scores": head_scores(after={"same_row": 5.0, "same_column": 5.0})}, 5),
    "heads structured before the drop": ({"head_scores": head_scores(before=STRUCTURED, after=STRUCTURED)}, 5),
    "position run early": ({"components": components(position_embedding=drop_at(6000))}, 6),
    "attention run late": ({"components": components(attention=drop_at(15_000))}, 6),
    "attention run without a plateau": ({"components": components(attention=decay())}, 6),
    "token run with a plateau": ({"components": components(token_embedding=drop_at(5000))}, 6),
    "mlp run without a drop": ({"components": components(mlp=flat())}, 6),
    "norms of v and -v correlated and unlike": ({"token_embeddings": tokens(norm=lambda v: np.abs(v) + 0.2 * v)}, 8),
    "norms of v and -v unrelated": ({"token_embeddings": tokens(norm=lambda v: v + 0.01 * np.sin(99 * v))}, 8),
    "first component not magnitude": ({"token_embeddings": tokens(first=lambda v: v)}, 8),
    "second component not sign": ({"token_embeddings": tokens(second=lambda v: np.abs(v) - v**2)}, 8),
    "positions in no clusters": ({"position_embeddings": places(column=0.1, row=0.05)}, 8),
    "positions in rows": ({"position_embeddings": places(column=0.3, row=0.35)}, 8),
    "rows read best in an early layer": ({"probes": probed((1.0, 0.3, 0.4, 0.5, 0.6))}, 9),
    "rows read in no layer": ({"probes": probed((1.0, 0.99, 0.98, 0.97, 0.96))}, 9),
    "no completion after swapping rows": ({"permuted_positions": permuted(swapped=PLATEAU)}, 10),
    "completion without positions": ({"permuted_positions": permuted(0.1 * PLATEAU)}, 10),
    "far from nuclear norm at another rank": ({"shifts": {("rank", RANK + 1): 3.0}}, 11),
    "far with fewer rows": ({"shifts": {("rows", 6): 3.0}}, 11),
    "far with more rows": ({"shifts": {("rows", 8): 3.0}}, 11),
    "close with other columns": ({"shifts": {("columns", 8): 1.0}}, 11),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_breaking_one_effect_breaks_its_claim_alone(broken):
    changed, claim = BROKEN[broken]
    assert failed(judged(changed)) == {claim}


def test_one_seed_of_two_that_fails_is_enough():
    changed, claim = BROKEN["rows read in no layer"]
    assert failed(judged({}, changed)) == failed(judged(changed, {})) == {claim}


UNDECIDED = {
    "no extracted step on the plateau": (
        {"token_intervention": intervention().query("step > 5000"), "head_scores": scores_at(LAST, **STRUCTURED)},
        {2, 5},
    ),
    "no extracted step after the drop": ({"head_scores": pd.concat([scores_at(0), scores_at(5000)])}, {5}),
    "component that ended too early": ({"components": components(attention=None)}, {6}),
    "no other rank tried": ({"shifts": {("rank", RANK + 1): None}}, {11}),
    "only fewer rows tried": ({"shifts": {("rows", 8): None}}, {11}),
    "only one matrix": ({"completion": completion(0.002, matrices=1), "baselines": nuclear_norm().iloc[:1]}, {4}),
}


@pytest.mark.parametrize("gap", UNDECIDED)
def test_what_was_not_measured_is_not_decided(gap):
    changed, claims = UNDECIDED[gap]
    table = judged(changed)
    assert failed(table) == set() and undecided(table) == claims


def test_one_seed_that_decides_is_enough_to_hold():
    table = judged({}, UNDECIDED["only one matrix"][0])
    assert failed(table) == undecided(table) == set()
    assert "2 seeds: 1 held, 1 not decided" in set(table["over_seeds"])


def short(until=8000):
    """A run that ended on its plateau: training and every component."""
    seen = until >= STEP
    return {
        "training": curve(flat())[seen],
        "components": {name: table[seen] for name, table in components(mlp=flat(), token_embedding=flat()).items()},
    }


def test_run_that_ended_before_its_drop_decides_nothing_of_what_comes_with_it():
    table = judged(short())
    assert failed(table) == set() and undecided(table) == {1, 3, 4, 5, 6, 8, 9, 10, 11}


def test_without_a_drop_in_the_steps_of_the_paper_there_is_none_and_order_of_components_is_judged():
    table = judged({"training": curve(flat())})
    assert failed(table) == {1, 6}
    onset = finding(table, "onset of the drop")
    assert (onset.verdict, onset.per_seed) == ("not held", "seed 0: >= 1e+05 (no drop by step 100000)")
    alone = table[table["claim"] == 6].set_index("quantity")["verdict"]
    assert alone["attention alone: onset / normal onset"] == "held"
    assert alone["position embedding alone: onset / normal onset"] == "not held"
    assert set(alone[alone.index.str.contains("length of the plateau")]) == {"not decided"}


def test_run_that_left_the_plateau_and_ended_high_may_still_drop():
    slow = PLATEAU * np.interp(STEP, [ONSET, LAST], [1.0, 0.6])
    onset = finding(judged({"training": curve(slow)}), "onset of the drop")
    assert onset.verdict == "not decided" and onset.per_seed.endswith("(no drop by step 100000)")


def test_run_without_a_plateau_has_no_abrupt_drop():
    row = finding(judged({"training": curve(0.5 * decay())}), "length of the first fall")
    assert (row.verdict, row.per_seed) == ("not held", "seed 0: inf")


def test_drop_in_two_stages_holds_and_its_rest_is_shown():
    staged = PLATEAU * np.interp(STEP, [ONSET, 11_000, 20_000, 22_000], [1.0, 0.33, 0.33, 0.02])
    table = judged({"training": curve(staged)})
    assert not failed(table)
    row = finding(table, "rests on the way down")
    assert (row.per_seed, row.verdict) == ("seed 0: 1 (at 0.33 of the plateau's level)", FOR_COMPARISON)


def test_random_masks_and_all_queries_alone_decide_about_heads():
    scores = head_scores(after=STRUCTURED)
    elsewhere = (scores["mask_pattern"] != "random") | (scores["query_group"] != "all")
    scores.loc[elsewhere, "share"] = scores.loc[elsewhere, "uniform_share"] * 7
    assert not failed(judged({"head_scores": scores}))


@pytest.mark.parametrize("elsewhere", [STEP < ONSET / 2, STEP > 0.75 * ONSET], ids=["first half", "last quarter"])
def test_copying_is_measured_late_on_the_plateau_and_well_before_its_end(elsewhere):
    observed = np.where(elsewhere, PLATEAU, 0.002)
    row = judged({"training": curve(drop_at(ONSET), observed)}).query("claim == 2").iloc[0]
    assert row["measured"] == pytest.approx(0.002 / PLATEAU)


def test_measured_onset_is_the_last_step_on_the_plateau():
    row = judged({}).query("claim == 1 and quantity == 'onset of the drop'").iloc[0]
    # The level falls below 90 % at 10 153, between two rows.
    assert row["measured"] == 10_000
    assert row["per_seed"] == "seed 0: 1e+04"


def test_measured_is_the_median_over_seeds():
    late = {"training": curve(drop_at(12_000))}
    later = {"training": curve(drop_at(20_000))}
    assert judged({}, later, late).query("quantity == 'onset of the drop'")["measured"].item() == 12_000


@pytest.mark.parametrize(
    ("onsets", "text"),
    [
        ([10_000], "seed 0: 1e+04 [updates] | 1 seed"),
        (
            [20_000, 10_000, 12_000],
            "seed 0: 2e+04; seed 1: 1e+04; seed 2: 1.2e+04; median 1.2e+04 [updates] | 3 seeds: 3 held",
        ),
        (
            [10_000, None],
            "seed 0: 1e+04; seed 1: >= 1e+05 (no drop by step 100000) [updates] | 2 seeds: 1 held, 1 not held",
        ),
    ],
)
def test_pages_have_the_value_of_every_seed_and_count_their_verdicts(onsets, text):
    curves = [flat() if onset is None else drop_at(onset) for onset in onsets]
    table = judged(*({"training": curve(values)} for values in curves))
    assert f"| onset of the drop | {text} | < 50000 (the length of the paper's run) |" in claims_markdown(table, ABOUT)


def test_values_of_the_other_rows():
    measured = judged({}).set_index("quantity")["measured"]
    assert measured["MSE at observed entries, late plateau / E[x^2]"] == pytest.approx(0.002 * 9 / 2)
    assert measured["MSE at masked entries, late plateau / E[x^2]"] == pytest.approx(1)
    assert measured["final MSE / plateau MSE (mask probability * E[x^2]), all entries"] == pytest.approx(0.03, rel=0.01)
    ratio = measured["final MSE / MSE of nuclear-norm minimisation, all entries"]
    assert ratio == pytest.approx(0.002 / 0.0113, rel=0.01)
    assert measured["share on the same row / uniform share, strongest head, last step"] == pytest.approx(5)
    assert measured["share on masked entries / uniform share, weakest head, last step"] == pytest.approx(0.1)
    assert measured["attention alone: onset / normal onset"] == pytest.approx(0.4)


def test_nuclear_norm_is_on_the_way_from_the_least_to_that_of_the_truth():
    rows = judged({"completion": completion(0.002, nuclear_norm=4.5)})
    row = rows[rows["quantity"].str.startswith("mean nuclear norm")]
    assert row["measured"].item() == pytest.approx(0.5, abs=0.02)


def test_error_under_a_shift_is_set_against_predicting_0_for_the_shifted_task():
    row = judged({}).query("quantity == 'another rank: MSE of the model / predicting 0 at masked entries, largest'")
    # 1.5 times the minimiser's error, which is 1 here; at rank 3 predicting 0 costs 0.3 * 3/9.
    assert row["measured"].item() == pytest.approx(15)


def test_paired_difference_is_in_standard_errors():
    model, minimiser = completion(0.002)["mse_all"].to_numpy(), nuclear_norm()["mse_all"].to_numpy()
    difference = model - minimiser
    expected = difference.mean() / (difference.std(ddof=1) / MATRICES**0.5)
    row = judged({}).query("quantity == 'the same difference, model - minimiser, paired by matrix'").iloc[0]
    assert row["measured"] == pytest.approx(expected)


def test_pairing_is_by_matrix_and_not_by_row():
    shuffled = nuclear_norm().sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(judged({"baselines": shuffled}), judged({}))


@pytest.mark.parametrize(
    ("name", "last", "verdict"),
    [
        ("attention alone: onset", ONSET - 500, "not decided"),
        ("attention alone: onset", ONSET + 500, "not held"),
        ("attention alone: length", 500, "not decided"),
        ("attention alone: length", ONSET, "held"),
        ("position embedding alone: onset /", ONSET - 500, "not decided"),
        ("position embedding alone: onset /", ONSET + 500, "held"),
        ("mlp alone: length", 500, "not decided"),
        ("mlp alone: length", ONSET - 500, "not held"),
    ],
)
def test_component_without_a_drop_is_judged_by_how_late_its_onset_is_at_least(name, last, verdict):
    ended = components() | {name.split(" alone")[0].replace(" ", "_"): curve(flat())[last >= STEP]}
    row = finding(judged({"components": ended}), name)
    assert (row.verdict, row.per_seed) == (verdict, f"seed 0: >= {last / ONSET:.4g} (no drop by step {last})")


def test_heads_are_shown_at_the_last_step_up_to_the_onset_too():
    late = pd.concat([head_scores(after=STRUCTURED), scores_at(9000, same_row=3.0)])
    rows = judged({"head_scores": late}).set_index("quantity")
    row = rows.loc["share on the same row / uniform share, strongest head, last step up to the onset"]
    assert row["measured"] == pytest.approx(3) and row["verdict"] == FOR_COMPARISON


def test_component_that_is_not_configured_is_not_decided():
    table = judged({"components": {"attention": curve(drop_at(4000))}})
    assert finding(table, "attention alone: onset").verdict == "held"
    row = finding(table, "mlp alone")
    assert (row.verdict, row.per_seed) == ("not decided", "seed 0: not among components.names")


PAPER_ONLY = ["final MSE over all entries", "position embedding alone: onset"]


@pytest.mark.parametrize("quantity", PAPER_ONLY)
@pytest.mark.parametrize(
    ("scale", "verdict"),
    [("smoke", "not tested at this scale"), ("cpu", "not tested at this scale"), ("paper", "held")],
)
def test_the_papers_own_numbers_are_tested_at_paper_scale_alone(scale, verdict, quantity):
    row = judged({}, scale=scale).set_index("quantity").loc[quantity]
    assert row["verdict"] == verdict
    assert not math.isnan(row["measured"])


def test_paper_numbers_fail_at_paper_scale_when_they_are_missed():
    missed = {"completion": completion(0.0055), "components": components(position_embedding=drop_at(45_000))}
    verdicts = judged(missed, scale="paper").set_index("quantity")["verdict"]
    assert verdicts[PAPER_ONLY].tolist() == ["not held", "not held"]


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_claim_seven_is_not_tested_yet(scale):
    assert judged({}, scale=scale).query("claim == 7")["verdict"].tolist() == ["not tested yet"]


def test_levels_scale_with_the_rank():
    def halved(table, *columns):
        return table.assign(**{column: table[column] / 2 for column in columns})

    # At rank 1 every MSE is half of that at rank 2.
    changed = {
        "training": halved(tables()["training"], "mse_masked", "mse_observed"),
        "components": {name: halved(table, "mse_masked") for name, table in components().items()},
        "completion": halved(completion(0.002), "mse_all"),
        "baselines": halved(nuclear_norm(), "mse_all"),
        "token_intervention": halved(intervention(), "mse_to_value", "mse_to_truth", "mse_if_copying"),
    }
    assert not failed(judged(changed, task=replace(TASK, rank=1)))


def test_table_has_the_documented_columns_and_no_quantity_twice():
    table = judged({})
    assert list(table.columns[:6]) == ["claim", "quantity", "measured", "criterion", "verdict", "evidence"]
    assert not table.duplicated(["claim", "quantity"]).any()


def test_evidence_is_under_the_results_of_the_scale():
    evidence = judged({}, scale="smoke").query("claim != 7")["evidence"]
    assert evidence.str.startswith("results/smoke/").all()


@pytest.mark.parametrize(
    ("verdicts", "over_seeds"),
    [
        (["held", "held"], "held"),
        (["held", "not decided"], "held"),
        (["held", "not decided", "not held"], "not held"),
        (["not decided", "not decided"], "not decided"),
    ],
)
def test_verdict_over_seeds(verdicts, over_seeds):
    assert verdict_over_seeds(verdicts) == over_seeds


@pytest.mark.parametrize(
    ("verdicts", "overall"),
    [
        (["held", "held", FOR_COMPARISON], "held"),
        (["held", "not held", "held"], "not held (parts: 2 held, 1 not held)"),
        (["held", "not decided"], "not decided (parts: 1 held, 1 not decided)"),
        (["not held", "not decided"], "not held (parts: 1 not held, 1 not decided)"),
        (["not tested at this scale", "held"], "held"),
        (["not tested at this scale", "not held"], "not held"),
        (["not tested yet"], "not tested yet"),
    ],
)
def test_verdict_of_a_claim_over_its_parts(verdicts, overall):
    assert claim_verdict(verdicts) == overall


UNKNOWN = exactly(math.nan)


@pytest.mark.parametrize(
    ("criterion", "value", "verdict"),
    [
        (Criterion(most=1), exactly(1), "held"),
        (Criterion(most=1, strict=True), exactly(1), "not held"),
        (Criterion(least=0.5, most=1), exactly(0.7), "held"),
        (Criterion(least=0.5, most=1), Value(0.1, 2), "not decided"),
        (Criterion(least=0.5, most=1), Value(1.1, math.inf), "not held"),
        (Criterion(least=0.5, most=1), Value(0, 0.4), "not held"),
        (Criterion(least=0.5, strict=True), Value(0.6, math.inf), "held"),
        (Criterion(least=0.5, strict=True), Value(0.5, math.inf), "not decided"),
        (Criterion(most=1, strict=True), Value(1, math.inf), "not held"),
        (Criterion(least=0.5), UNKNOWN, "not decided"),
        (Criterion(most=0.5), UNKNOWN, "not decided"),
    ],
)
def test_criterion_judges_what_a_value_may_be(criterion, value, verdict):
    assert criterion.verdict(value) == verdict


@pytest.mark.parametrize(
    ("numerator", "denominator", "limits"),
    [
        (exactly(4), exactly(2), (2, 2)),
        (Value(4, math.inf), exactly(2), (2, math.inf)),
        (exactly(4), Value(2, math.inf), (0, 2)),
        (Value(4, math.inf), Value(2, math.inf), (0, math.inf)),
        (exactly(4), exactly(0), (-math.inf, math.inf)),
    ],
)
def test_ratio_of_limits(numerator, denominator, limits):
    value = ratio(numerator, denominator)
    assert (value.low, value.high) == limits


def test_claims_are_listed_by_the_figures_of_their_parts():
    figures = claims_by_figure()
    assert figures["fig02_loss"] == [1, 2, 3] and figures["fig12_gpt_attention"] == [12]


ABOUT = introduction("cpu", TASK, [0, 1])


def test_introduction_names_the_setting_and_the_seeds_that_were_seen():
    assert "7 x 7 matrices of rank 2, mask probability 0.3; seeds 0, 1." in ABOUT
    assert "Seeds 0, 1 and 2 of the cpu scale" in ABOUT and "seeds 10 to 14 are those that confirm" in ABOUT


CLAIM_LINES = [
    (claim.number, claim.statement, claim.source)
    + ({3: "not held", 7: "not tested yet", 12: IN_OWN_RUNS}.get(claim.number, "held"),)
    for claim in CLAIMS
]


def test_markdown_has_each_claim_with_its_verdict():
    lines = claims_markdown(judged(BROKEN["high final error"][0]), ABOUT).splitlines()
    assert {f"| {' | '.join(map(str, cells))} |" for cells in CLAIM_LINES} <= set(lines)


def test_html_page_has_each_claim_with_its_verdict():
    page = "".join(line.strip() for line in claims_html(judged(BROKEN["high final error"][0]), ABOUT).splitlines())
    for cells in CLAIM_LINES:
        assert "".join(f"<td>{html.escape(str(cell), quote=False)}</td>" for cell in cells) in page


@pytest.mark.parametrize("to_page", [claims_markdown, claims_html])
def test_pages_have_the_introduction(to_page):
    assert ABOUT in to_page(judged({}), ABOUT)


def test_markdown_has_a_row_for_each_finding():
    table = judged({"training": curve(flat())})
    lines = claims_markdown(table, ABOUT).splitlines()
    for row in table.itertuples():
        quantity = row.quantity.replace("*", r"\*")
        (line,) = [line for line in lines if line.startswith(f"| {row.claim} | {quantity} |")]
        assert f"| {row.criterion} | {row.verdict} |" in line
        # A bar in a cell would split it.
        assert line.count("|") == 8


def family(**onsets):
    """Curves of one seed's members, name -> onset of the drop or None for no drop."""
    curves = [
        curve(flat() if onset is None else drop_at(onset)).assign(member=int(name.strip("m")), seed=0)
        for name, onset in onsets.items()
    ]
    return pd.concat(curves)


def decoded(entropy=None, accuracy=1.0):
    fall = np.interp(STEP, [ONSET, ONSET + 1500], [4.8, 0.01]) if entropy is None else entropy
    columns = {"cross_entropy_observed": fall, "marginal_entropy": 4.8, "accuracy_observed": accuracy}
    return pd.DataFrame({"seed": 0, "step": STEP, **columns})


def attended(sep=0.9, predicted=0.9):
    """Of two layers of a decoder of two entries: the last one's strongest weight on SEP before copying, and on the
    entry to predict after it; the first layer, and the other head, have none of it."""
    rows = [
        {"seed": 0, "step": step, "layer": layer, "head": head, "query": query, "key": key}
        | {"attention": weight if (layer, head) == (2, 2) and key == at else 0.0}
        for step, weight in ((5000, sep), (LAST, predicted))
        for layer in (1, 2)
        for head in (1, 2)
        for query in (1, 2)
        for at in [3 if step == 5000 else query]
        for key in range(1, 5)
    ]
    return pd.DataFrame(rows)


def figures(**changed):
    """Tables behind the figures of runs that all are as the paper says."""
    return {
        "fig11_gpt_loss": decoded(),
        "fig12_gpt_attention": attended(),
        "fig13_width": family(m16=None, m64=ONSET),
        "fig14_depth": family(m4=ONSET, m6=4000, m12=20_000),
        "fig16_mixture": family(m5=ONSET, m7=ONSET),
        "fig17_larger": family(m10=ONSET, m12=ONSET),
        "fig18_gaussian": curve(drop_at(ONSET)).assign(seed=0),
        **changed,
    }


def own_runs_table(**changed):
    return claims_table(list(own_runs(figures(**changed), dict.fromkeys(figures(), TASK), "results/cpu")))


def figures_with(verdict, **changed):
    table = own_runs_table(**changed)
    return set(table.loc[table["verdict"] == verdict, "figure"])


def test_runs_that_are_as_the_paper_says_hold_the_claim_about_them():
    assert set(own_runs_table()["verdict"]) == {"held"}


@pytest.mark.parametrize(
    ("figure", "table"),
    [
        ("fig11_gpt_loss", decoded(accuracy=0.5)),
        ("fig11_gpt_loss", decoded(entropy=4.8 * (1 - 0.1 * STEP / ONSET).clip(min=0.01))),
        ("fig12_gpt_attention", attended(sep=0.3)),
        ("fig12_gpt_attention", attended(predicted=0.4)),
        ("fig13_width", family(m16=ONSET, m64=ONSET)),
        ("fig13_width", family(m16=ONSET, m64=None)),
        ("fig14_depth", family(m4=4000, m6=ONSET)),
        ("fig14_depth", family(m4=ONSET, m6=None)),
        ("fig16_mixture", family(m5=ONSET, m7=None)),
        ("fig17_larger", family(m10=None, m12=ONSET)),
        ("fig18_gaussian", curve(flat()).assign(seed=0)),
    ],
)
def test_a_run_that_is_not_breaks_its_part_alone(figure, table):
    assert figures_with("not held", **{figure: table}) == {figure}


def until(step, table):
    return table[table["step"] <= step]


@pytest.mark.parametrize(
    ("figure", "table"),
    [
        ("fig11_gpt_loss", until(4000, decoded())),
        ("fig12_gpt_attention", attended().query("step > 5000")),
        ("fig13_width", family(m16=None, m64=None)),
        ("fig13_width", until(2 * ONSET, family(m16=None, m64=ONSET))),
        ("fig13_width", family(m64=ONSET)),
        ("fig14_depth", family(m4=None, m6=None)),
        ("fig14_depth", family(m3=ONSET)),
        ("fig16_mixture", until(20_000, family(m5=ONSET, m7=None))),
        ("fig17_larger", until(20_000, family(m10=None, m12=ONSET))),
        ("fig18_gaussian", until(4000, curve(flat()).assign(seed=0))),
    ],
)
def test_a_run_that_cannot_tell_does_not_decide(figure, table):
    assert figures_with("not held", **{figure: table}) == set()
    assert figure in figures_with("not decided", **{figure: table})


def test_decoder_without_a_plateau_at_the_marginal_entropy_is_told_so():
    shifted = np.interp(STEP, [0, 1000, ONSET, ONSET + 1500], [4.8, 4.33, 4.33, 0.01])
    curve = decoded(entropy=shifted)
    assert plateau_level(curve, find_copying(curve)) == pytest.approx(4.33 / 4.8, rel=1e-3)


def test_weights_of_the_decoder_are_the_strongest_head_s_in_the_units_they_are_judged_in():
    table = attended(sep=0.5, predicted=0.7)
    last_layers = {step: part[part["layer"] == 2] for step, part in table.groupby("step")}
    # Uniform attention gives 1/3 to each key of the first query, 1/4 to each of the second.
    assert strongest_weights(last_layers[5000])["sep"] == pytest.approx(0.5 * 24 / 7)
    assert strongest_weights(last_layers[LAST])["predicted"] == pytest.approx(0.7)


def test_a_depth_that_drops_where_a_smaller_one_does_not_is_earlier():
    assert set(own_runs_table(fig14_depth=family(m4=None, m6=ONSET))["verdict"]) == {"held"}


def test_figure_of_one_seed_is_judged_on_that_seed():
    second = {name: table.assign(seed=3) for name, table in figures().items() if name != "fig12_gpt_attention"}
    both = {name: pd.concat([figures()[name], table]) for name, table in second.items()}
    per_seed = own_runs_table(**both).set_index("figure")["over_seeds"]
    assert set(per_seed["fig12_gpt_attention"]) == {"1 seed"}
    assert per_seed["fig13_width"] == "2 seeds: 2 held"


def test_introduction_of_runs_says_which_have_the_main_runs_matrices():
    about_runs = introduction_of_runs("cpu", TASK, [0, 1])
    assert "Scale cpu, seeds 0, 1: runs of their own" in about_runs
    assert "widths and depths have the main run's matrices, 7 x 7 of rank 2;" in about_runs
