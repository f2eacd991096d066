import html
import math

import numpy as np
import pandas as pd
import pytest

from abrupt.claims import CLAIMS, SeedRun, findings
from abrupt.claims.finding import FOR_COMPARISON, IN_OWN_RUNS
from abrupt.claims.own_runs import decoder_shares, introduction_of_runs, own_runs, plateau_level
from abrupt.claims.verdicts import claims_html, claims_markdown, claims_table, introduction, overall_verdict
from abrupt.scores.drop import find_copying

RANK, MASK_PROBABILITY = 2, 0.3
PLATEAU = 2 / 9
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
    return {name: curve(values) for name, values in (curves | changed).items()}


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


def judged(*changes, scale="cpu", rank=RANK):
    """The claims table of one run for each dict of changed tables."""
    task = {"mask_probability": MASK_PROBABILITY, "rank": rank, "rows": 7, "columns": 7}
    task |= {"factor_law": "uniform", "factor_scale": 1}
    runs = {}
    for seed, changed in enumerate(changes):
        shifts = {**SHIFTS, **changed.get("shifts", {})}
        of_seed = tables(**{name: table for name, table in changed.items() if name != "shifts"})
        for name in ("completion", "baselines"):
            # The task's own matrices are those that count for claim 4, not those of a shift.
            own = of_seed[name]
            shifted = [
                own.assign(**{**task, axis: value}, mse_all=ratio if name == "completion" else 1.0, nuclear_norm=9.0)
                for (axis, value), ratio in shifts.items()
            ]
            of_seed[name] = pd.concat([own.assign(**task), *shifted])
        runs[seed] = SeedRun(task, **of_seed)
    return claims_table(list(findings(runs, scale, f"results/{scale}")))


def failed(table):
    return set(table.loc[table["verdict"] == "not held", "claim"])


def test_run_that_has_every_effect_holds_every_tested_claim():
    table = judged({})
    assert set(table["verdict"]) == {"held", "not tested at this scale", "not tested yet", IN_OWN_RUNS, FOR_COMPARISON}
    assert set(table["claim"]) == set(CLAIMS)


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


@pytest.mark.parametrize("broken", BROKEN)
def test_one_seed_of_two_that_fails_is_enough(broken):
    changed, claim = BROKEN[broken]
    assert failed(judged({}, changed)) == failed(judged(changed, {})) == {claim}


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
        ([10_000], "1 seed"),
        ([20_000, 10_000, 12_000], "3 seeds: 1e+04 to 2e+04"),
        ([10_000, None], "2 seeds"),
    ],
)
def test_pages_say_over_how_many_seeds_a_number_is_and_their_range(onsets, text):
    curves = [flat() if onset is None else drop_at(onset) for onset in onsets]
    table = judged(*({"training": curve(values)} for values in curves))
    assert table.set_index("quantity").loc["onset of the drop", "over_seeds"] == text
    line = next(line for line in claims_markdown(table, about()).splitlines() if "| onset of the drop |" in line)
    assert f"| {text} |" in line


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


def test_run_without_a_drop_is_judged():
    table = judged({"training": curve(flat())})
    onset = table.query("quantity == 'onset of the drop'").iloc[0]
    assert onset["verdict"] == "not held"
    assert math.isnan(onset["measured"])
    assert onset["per_seed"] == "seed 0: no drop"
    assert {1, 6} <= failed(table)


def test_one_seed_without_a_drop_leaves_the_other_seed_its_number():
    onset = judged({}, {"training": curve(flat())}).query("quantity == 'onset of the drop'").iloc[0]
    assert onset["per_seed"] == "seed 0: 1e+04; seed 1: no drop"
    assert math.isnan(onset["measured"])


def test_component_without_a_drop_is_said_to_have_none():
    row = judged({"components": components(attention=flat())})
    row = row[row["quantity"].str.startswith("attention alone: onset / normal onset, at least")].iloc[0]
    assert row["verdict"] == "not held" and row["measured"] == LAST / ONSET


def test_position_run_without_a_drop_is_later_than_a_normal_one_that_has_one():
    row = judged({"components": components(position_embedding=flat())})
    row = row[row["quantity"].str.startswith("position embedding alone: onset / normal onset")].iloc[0]
    assert row["verdict"] == "held" and row["quantity"].endswith("at least: a run has no drop in its steps")


@pytest.mark.parametrize(
    ("name", "last", "verdict"),
    [
        ("attention", ONSET - 500, "run too short to tell"),
        ("attention", ONSET + 500, "not held"),
        ("position_embedding", ONSET - 500, "run too short to tell"),
        ("position_embedding", ONSET + 500, "held"),
        ("mlp", 500, "run too short to tell"),
        ("mlp", ONSET - 500, "not held"),
    ],
)
def test_component_without_a_drop_is_judged_only_if_it_ran_long_enough(name, last, verdict):
    short = components()
    short[name] = curve(flat())[last >= STEP]
    table = judged({"components": short})
    row = table[table["quantity"].str.startswith(f"{name.replace('_', ' ')} alone: onset / normal onset")].iloc[0]
    assert row["verdict"] == verdict


def test_heads_are_shown_at_the_last_step_up_to_the_onset_too():
    late = pd.concat([head_scores(after=STRUCTURED), scores_at(9000, same_row=3.0)])
    rows = judged({"head_scores": late}).set_index("quantity")
    row = rows.loc["share on the same row / uniform share, strongest head, last step up to the onset"]
    assert row["measured"] == pytest.approx(3) and row["verdict"] == FOR_COMPARISON


def test_run_that_never_was_on_the_plateau_is_judged():
    table = judged({"training": curve(0.5 * decay())})
    assert 1 in failed(table)


def test_component_that_is_not_configured_is_no_crash():
    only_attention = {"attention": curve(drop_at(4000))}
    table = judged({"components": only_attention})
    row = table[table["quantity"] == "attention alone: onset / normal onset"].iloc[0]
    assert row["verdict"] == "held"
    others = table[table["quantity"].str.startswith(("token embedding alone", "mlp alone", "position embedding alone"))]
    assert not set(others["verdict"]) & {"held", "not held"}


def test_only_a_missing_drop_is_called_no_drop():
    # One matrix has no standard error.
    one = {"completion": completion(0.002, matrices=1), "baselines": nuclear_norm().iloc[:1]}
    table = judged(one)
    assert not table.loc[table["claim"] == 4, "per_seed"].str.contains("no drop").any()


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
    assert not failed(judged(changed, rank=1))


def test_table_has_the_documented_columns_and_every_claim():
    table = judged({})
    assert list(table.columns[:6]) == ["claim", "quantity", "measured", "criterion", "verdict", "evidence"]
    assert set(table["claim"]) == set(CLAIMS)
    assert not table.duplicated(["claim", "quantity"]).any()


def test_evidence_is_under_the_results_of_the_scale():
    evidence = judged({}, scale="smoke").query("claim != 7")["evidence"]
    assert evidence.str.startswith("results/smoke/").all()


@pytest.mark.parametrize(
    ("verdicts", "overall"),
    [
        (["held", "held"], "held"),
        (["held", "not held", "held"], "not held (2 of 3 parts held)"),
        (["not tested at this scale", "held"], "held"),
        (["not tested at this scale", "not held"], "not held (0 of 1 parts held)"),
        (["not tested yet"], "not tested yet"),
    ],
)
def test_overall_verdict(verdicts, overall):
    assert overall_verdict(verdicts) == overall


SETTING = {"rows": 7, "columns": 7, "rank": 2, "mask_probability": 0.3}


def about():
    return introduction("cpu", SETTING, [0, 1])


def test_introduction_names_the_setting():
    assert "7 x 7 matrices of rank 2, mask probability 0.3; seeds 0, 1." in about()


VERDICTS = {claim: "held" for claim in CLAIMS} | {
    3: "not held (0 of 1 parts held)",
    7: "not tested yet",
    12: IN_OWN_RUNS,
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_markdown_has_each_claim_with_its_verdict(claim):
    lines = claims_markdown(judged(BROKEN["high final error"][0]), about()).splitlines()
    statement, source = CLAIMS[claim]
    assert f"| {claim} | {statement} | {source} | {VERDICTS[claim]} |" in lines


@pytest.mark.parametrize("claim", CLAIMS)
def test_html_page_has_each_claim_with_its_verdict(claim):
    page = claims_html(judged(BROKEN["high final error"][0]), about())
    cells = [f"<td>{html.escape(str(cell), quote=False)}</td>" for cell in (claim, *CLAIMS[claim], VERDICTS[claim])]
    assert "".join(cells) in "".join(line.strip() for line in page.splitlines())


@pytest.mark.parametrize("to_page", [claims_markdown, claims_html])
def test_pages_have_the_introduction(to_page):
    assert about() in to_page(judged({}), about())


def test_markdown_has_a_row_for_each_finding():
    table = judged({"training": curve(flat())})
    lines = claims_markdown(table, about()).splitlines()
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
        for step, weight in ((100, sep), (900, predicted))
        for layer in (1, 2)
        for head in (1, 2)
        for query in (1, 2)
        for at in [3 if step == 100 else query]
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


TASK = {"rank": RANK, "factor_law": "uniform", "factor_scale": 1}


def not_held_in(**changed):
    table = claims_table(list(own_runs(figures(**changed), dict.fromkeys(figures(), TASK), "results/cpu")))
    return set(table.loc[table["verdict"] != "held", "figure"])


def test_runs_that_are_as_the_paper_says_hold_the_claim_about_them():
    assert not_held_in() == set()


@pytest.mark.parametrize(
    ("figure", "table"),
    [
        ("fig11_gpt_loss", decoded(entropy=np.full(len(STEP), 4.8))),
        ("fig11_gpt_loss", decoded(accuracy=0.5)),
        ("fig11_gpt_loss", decoded(entropy=4.8 * (1 - 0.1 * STEP / ONSET).clip(min=0.01))),
        ("fig12_gpt_attention", attended(sep=0.3)),
        ("fig12_gpt_attention", attended(predicted=0.4)),
        ("fig13_width", family(m16=ONSET, m64=ONSET)),
        ("fig13_width", family(m16=None, m64=None)),
        ("fig14_depth", family(m4=None, m6=None)),
        ("fig14_depth", family(m4=4000, m6=ONSET)),
        ("fig14_depth", family(m4=ONSET, m6=None)),
        ("fig16_mixture", family(m5=ONSET, m7=None)),
        ("fig17_larger", family(m10=None, m12=ONSET)),
        ("fig18_gaussian", curve(flat()).assign(seed=0)),
    ],
)
def test_a_run_that_is_not_breaks_its_part_alone(figure, table):
    assert not_held_in(**{figure: table}) == {figure}


def test_decoder_without_a_plateau_at_the_marginal_entropy_is_told_so():
    shifted = np.interp(STEP, [0, 1000, ONSET, ONSET + 1500], [4.8, 4.33, 4.33, 0.01])
    curve = decoded(entropy=shifted)
    assert plateau_level(curve, find_copying(curve)) == pytest.approx(4.33 / 4.8, rel=1e-3)


def test_shares_of_the_decoder_are_the_strongest_head_s_in_the_units_they_are_judged_in():
    table = attended(sep=0.5, predicted=0.7)
    of_step = {step: part[part["layer"] == 2] for step, part in table.groupby("step")}
    # Uniform attention gives 1/3 to each key of the first query, 1/4 to each of the second.
    assert decoder_shares(of_step[100])["sep"] == pytest.approx(0.5 * 24 / 7)
    assert decoder_shares(of_step[900])["predicted"] == pytest.approx(0.7)


def test_a_depth_that_drops_where_a_smaller_one_does_not_is_earlier():
    assert not_held_in(fig14_depth=family(m4=None, m6=ONSET)) == set()


def test_decoder_s_attention_is_said_to_be_of_one_seed():
    attention = attended().assign(seed=3)
    table = claims_table(list(own_runs(figures(fig12_gpt_attention=attention), dict.fromkeys(figures(), TASK), "r")))
    quantities = table.loc[table["figure"] == "fig12_gpt_attention", "quantity"]
    assert quantities.str.contains("seed 3 alone").all()


def test_introduction_of_runs_says_which_have_the_main_runs_matrices():
    about_runs = introduction_of_runs("cpu", SETTING, [0, 1])
    assert "Scale cpu, seeds 0, 1: runs of their own" in about_runs
    assert "widths and depths have the main run's matrices, 7 x 7 of rank 2;" in about_runs
