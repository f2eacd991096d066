import copy
from functools import reduce
from pathlib import Path

import configured
import jsonschema
import pytest
import yaml
from configured import WORKFLOW

from abrupt.config.settings import (
    check,
    check_name,
    explain_schema_error,
    flattened,
    layered,
    merged,
    read_yaml,
    retyped,
    whole,
)
from abrupt.errors import InputError

CONFIG = merged(configured.CONFIG, {"name": "cpu"})  # as it is checked: complete
SCHEMA = yaml.safe_load((WORKFLOW / "schemas/config.schema.yaml").read_text(encoding="utf-8"))
SCALES = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) or {} for path in (WORKFLOW / "scales").glob("*.yaml")
}


# What the tests of single values start from: config.yaml with the values that they compare fixed here.
BASE = merged(
    CONFIG,
    {
        "task": {"rows": 7, "columns": 7, "rank": 1, "max_value": 10, "factor_law": "uniform", "factor_scale": 1},
        "model": {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64},
        "pretrain": {"steps": 50_000, "checkpoint_steps": [0, 500, 50_000], "log_every": 50, "eval_every": 250},
        "components": {"steps": 6000},
        "attention": {"steps": [0, 50_000], "matrices": 256, "samples": 4},
        "analyses": {
            "steps": [0, 50_000],
            "interventions": {"pre_shift_step": 0},
            "completion": {"shifts": {"rank": [1], "rows": [7], "columns": [7], "factor_scale": {"uniform": [1]}}},
        },
    },
)


def changed(**values):
    """`BASE` with some values replaced: section__key=value."""
    return configured.changed(BASE, **values)


def without(*path):
    """config.yaml without one key."""
    config = copy.deepcopy(CONFIG)
    del reduce(dict.__getitem__, path[:-1], config)[path[-1]]
    return config


def violations(config):
    return list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(config))


def explained(config):
    (violation,) = violations(config)
    return explain_schema_error(violation)


def test_merged_lays_nested_dicts_over_one_another():
    base = {"a": 1, "b": {"c": 2, "d": {"e": 3, "f": 4}}}
    assert merged(base, {"b": {"d": {"e": 5}}, "g": 6}) == {"a": 1, "b": {"c": 2, "d": {"e": 5, "f": 4}}, "g": 6}


def test_merged_replaces_lists():
    assert merged({"steps": [0, 10, 20]}, {"steps": [0, 5]}) == {"steps": [0, 5]}


@pytest.mark.parametrize(("base", "over"), [({"a": {"b": 1}}, {"a": 2}), ({"a": 2}, {"a": {"b": 1}})])
def test_merged_replaces_a_dict_by_a_value_and_a_value_by_a_dict(base, over):
    assert merged(base, over) == over


def test_merged_does_not_change_its_arguments():
    base, over = {"a": {"b": 1, "c": [1]}}, {"a": {"b": 2}, "d": {"e": 1}}
    before = copy.deepcopy((base, over))
    merged(base, over)
    assert (base, over) == before


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9", 9),
        ("0.5", 0.5),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("smoke", "smoke"),
        ("null", None),
        (7, 7),
        (0.1, 0.1),
    ],
)
def test_retyped_reads_text_as_yaml(text, value):
    result = retyped(text)
    assert (result, type(result)) == (value, type(value))


def test_retyped_reaches_into_dicts_and_lists():
    assert retyped({"task": {"rows": "5"}, "seeds": ["0", 1]}) == {"task": {"rows": 5}, "seeds": [0, 1]}


def test_flattened_joins_keys_by_dots():
    nested = {"a": 1, "b": {"c": [1, 2], "d": {"e": None}}}
    assert flattened(nested) == {"a": 1, "b.c": [1, 2], "b.d.e": None}


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            changed(pretrain__learning_rate="1e-4"),
            "config: pretrain.learning_rate: '1e-4' is not of type 'number': YAML reads 1e-4 as text, write 0.0001",
        ),
        (without("pretrain", "steps"), "config: pretrain: 'steps' is a required property: every key of config.yaml"),
        (without("device"), "config: top level: 'device' is a required property"),
        (
            changed(task__mask_probability=1.5),
            "config: task.mask_probability: 1.5 is greater than or equal to the maximum of 1: Probability that",
        ),
        (changed(attention__steps=[0, -5]), "config: attention.steps[1]: -5 is less than the minimum of 0"),
        (changed(components__names=["mlp", "heads"]), "config: components.names[1]: 'heads' is not one of"),
        (changed(device="gpu"), "config: device: 'gpu' is not one of ['auto', 'cpu', 'cuda']: Where models run."),
        (changed(seeds=[]), "config: seeds: [] should be non-empty: One complete run for each"),
        (changed(analyses__baselines__regularisation=[]), "config: analyses.baselines.regularisation: [] should be"),
        (changed(analyses__completion__shifts__rank=[]), "config: analyses.completion.shifts.rank: [] should be non"),
        (
            changed(analyses__completion__shifts__factor_scale__laplace=[]),
            "config: analyses.completion.shifts.factor_scale.laplace: [] should be non-empty",
        ),
        (changed(task__rows="seven"), "config: task.rows: 'seven' is not of type 'integer': Rows of a matrix."),
        (changed(allow_slow="yes"), "config: allow_slow: 'yes' is not of type 'boolean': Let a run that would take"),
        (changed(model__hidden_size=0), "config: model.hidden_size: 0 is less than the minimum of 1"),
    ],
)
def test_schema_violation_is_explained_in_one_line_that_names_the_key(config, line):
    assert explained(config).startswith(line)
    assert "\n" not in explained(config)


def test_misspelt_key_is_explained_by_the_keys_there_are():
    line = explained(changed(task__mask_probabilty=0.3))
    assert line.startswith("config: task: ") and "'mask_probabilty' was unexpected" in line
    assert line.endswith(
        "remove it or spell it as one of rows, columns, rank, mask_probability, decimals, max_value, "
        "factor_law, factor_scale"
    )


def test_integer_given_as_text_is_told_to_be_written_as_an_integer():
    # 5e4 is text in YAML 1.1.
    assert explained(changed(pretrain__steps="5e4")).endswith("YAML reads 5e4 as text, write 50000")


def at_scale(scale):
    return merged(CONFIG, SCALES[scale])


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_satisfies_the_schema(scale):
    assert [explain_schema_error(violation) for violation in violations(at_scale(scale))] == []


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_passes_the_checks(scale):
    check(at_scale(scale))


def test_there_is_a_file_for_each_scale_of_the_schema():
    assert set(SCALES) == set(SCHEMA["properties"]["scale"]["enum"])


@pytest.mark.parametrize("scale", SCALES)
def test_scale_changes_only_keys_of_config_yaml(scale):
    assert flattened(SCALES[scale]).keys() <= flattened(CONFIG).keys()


@pytest.mark.parametrize("scale", SCALES)
def test_scale_repeats_no_value_of_config_yaml(scale):
    default = flattened(CONFIG)
    assert {key for key, value in flattened(SCALES[scale]).items() if value == default[key]} == set()


def test_paper_scale_is_the_setting_of_the_paper():
    scale = at_scale("paper")
    assert scale["task"] == {
        "rows": 7,
        "columns": 7,
        "rank": 2,
        "mask_probability": 0.3,
        "decimals": 2,
        "max_value": 10,
        "factor_law": "uniform",
        "factor_scale": 1,
    }
    assert scale["model"] == {
        "hidden_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "embedding_init_std": 0.02,
        "weight_init_std": 0.02,
    }
    training = {"steps": 50_000, "batch_size": 256, "learning_rate": 1e-4, "warmup_steps": 0}
    training |= {"adam_beta1": 0.9, "adam_beta2": 0.999}
    assert {key: scale["pretrain"][key] for key in training} == training


def objects(schema, path=""):
    """Each object of the schema, with its path."""
    yield path, schema
    for name, of_property in schema["properties"].items():
        if of_property.get("type") == "object":
            yield from objects(of_property, f"{path}{name}.")


OBJECTS = dict(objects(SCHEMA))


def test_config_and_schema_have_the_same_keys():
    in_schema = {
        f"{path}{name}"
        for path, of_object in OBJECTS.items()
        for name, of_property in of_object["properties"].items()
        if of_property.get("type") != "object"
    }
    assert in_schema == flattened(CONFIG).keys()


@pytest.mark.parametrize("path", OBJECTS)
def test_schema_requires_every_key_and_admits_no_other(path):
    assert sorted(OBJECTS[path]["required"]) == sorted(OBJECTS[path]["properties"])
    assert OBJECTS[path]["additionalProperties"] is False


@pytest.mark.parametrize("path", OBJECTS)
def test_every_key_of_the_schema_is_described(path):
    assert [name for name, schema in OBJECTS[path]["properties"].items() if not schema.get("description")] == []


def test_schema_itself_is_valid():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def problems(config):
    with pytest.raises(InputError) as raised:
        check(config)
    return str(raised.value).splitlines()


# Each breaks one rule alone; the message starts with the key to change.
ONE_PROBLEM = {
    "rank above the size": ({"task__rank": 8}, "task.rank 8 exceeds min(rows, columns) = 7"),
    "rank above the columns": ({"task__rank": 4, "task__columns": 3}, "task.rank 4 exceeds min(rows, columns) = 3"),
    "values beyond the vocabulary": (
        {"task__rank": 2, "task__max_value": 1},
        "task.max_value 1 is below task.rank x",
    ),
    "heads": ({"model__hidden_size": 66}, "model.hidden_size 66 is not divisible by model.num_attention_heads 4"),
    "positions": (
        {"model__max_position_embeddings": 48},
        "model.max_position_embeddings 48 is below task.rows x task.columns = 49",
    ),
    "no step 0": (
        {
            "pretrain__checkpoint_steps": [500, 50_000],
            "attention__steps": [50_000],
            "analyses__steps": [50_000],
            "analyses__interventions__pre_shift_step": 500,
        },
        "pretrain.checkpoint_steps must include 0",
    ),
    "step beyond the run": (
        {"pretrain__checkpoint_steps": [0, 50_000, 60_000]},
        "pretrain.checkpoint_steps: 60000 is beyond pretrain.steps 50000",
    ),
    "attention without the last": ({"attention__steps": [0]}, "attention.steps must include pretrain.steps (50000)"),
    "analyses without the last": ({"analyses__steps": [0]}, "analyses.steps must include pretrain.steps (50000)"),
    "attention step not kept": (
        {"attention__steps": [123, 50_000]},
        "attention.steps: 123 is not in pretrain.checkpoint_steps",
    ),
    "analysis step not kept": (
        {"analyses__steps": [123, 50_000]},
        "analyses.steps: 123 is not in pretrain.checkpoint_steps",
    ),
    "evaluation between logs": (
        {"pretrain__eval_every": 275},
        "pretrain.eval_every 275 is not a multiple of pretrain.log_every 50",
    ),
    "end of pretraining between logs": (
        {
            "pretrain__steps": 110,
            "pretrain__checkpoint_steps": [0, 110],
            "attention__steps": [110],
            "analyses__steps": [110],
        },
        "pretrain.steps 110 is not a multiple of pretrain.log_every 50",
    ),
    "end of component runs between logs": (
        {"components__steps": 110},
        "components.steps 110 is not a multiple of pretrain.log_every 50",
    ),
    "samples": ({"attention__samples": 257}, "attention.samples 257 exceeds attention.matrices 256"),
    "pre-shift step not kept": (
        {"analyses__interventions__pre_shift_step": 400},
        "analyses.interventions.pre_shift_step 400 is not in pretrain.checkpoint_steps before pretrain.steps (50000)",
    ),
    "pre-shift step at the end": (
        {"analyses__interventions__pre_shift_step": 50_000},
        "analyses.interventions.pre_shift_step 50000 is not in pretrain.checkpoint_steps before",
    ),
    "intervention value": (
        {"analyses__token_intervention__values": [0.44, -10.5]},
        "analyses.token_intervention.values: -10.5 is outside [-10, 10]",
    ),
    "probes without a test": (
        {"analyses__probes": {"matrices": 100, "train_matrices": 99}},
        "analyses.probes.train_matrices 99 leaves fewer than 2",
    ),
    "tokens that never occur": (
        {"analyses__token_embeddings__largest_value": 1.5},
        "analyses.token_embeddings.largest_value 1.5 exceeds 1, the largest |entry|",
    ),
    "too few tokens": (
        {"analyses__token_embeddings__largest_value": 0.01},
        "analyses.token_embeddings.largest_value 0.01 leaves fewer than 5 tokens",
    ),
    "perplexity": (
        {"analyses__position_embeddings__perplexity": 49},
        "analyses.position_embeddings.perplexity 49 is not below task.rows x task.columns = 49",
    ),
    "shift with too high a rank": (
        {"analyses__completion__shifts__rank": [1, 7, 8]},
        "analyses.completion.shifts.rank: with 8, task.rank 8 exceeds min(rows, columns) = 7: lower it, or remove 8",
    ),
    "shift with too many positions": (
        {"analyses__completion__shifts__rows": [9, 10]},
        "analyses.completion.shifts.rows: with 10, model.max_position_embeddings 64 is below",
    ),
    "shift beyond the vocabulary": (
        {"analyses__completion__shifts__factor_scale__uniform": [3, 4]},
        "analyses.completion.shifts.factor_scale.uniform: with 4, task.max_value 10 is below",
    ),
}


@pytest.mark.parametrize("name", ONE_PROBLEM)
def test_each_rule_between_keys_gives_its_one_line(name):
    values, message = ONE_PROBLEM[name]
    (line,) = problems(changed(**values))
    assert line.startswith(f"config: {message}")


@pytest.mark.parametrize("name", ONE_PROBLEM)
def test_the_schema_alone_does_not_see_what_the_rules_see(name):
    assert violations(changed(**ONE_PROBLEM[name][0])) == []


def test_checkpoints_without_the_last_step_are_refused():
    config = changed(pretrain__checkpoint_steps=[0], attention__steps=[50_000], analyses__steps=[50_000])
    assert "config: pretrain.checkpoint_steps must include 50000" in problems(config)[0]


def test_several_problems_give_a_line_each():
    lines = problems(changed(task__rank=8, model__hidden_size=66, attention__samples=300))
    assert [line.split(" ")[:2] for line in lines] == [
        ["config:", "task.rank"],
        ["config:", "model.hidden_size"],
        ["config:", "attention.samples"],
    ]


def test_values_at_the_bounds_of_the_rules_are_accepted():
    check(changed(task__rank=7, task__max_value=7, model__max_position_embeddings=49, attention__samples=256))


# The layers of the configuration, and the name of its results.


def layers(configfiles=(), given=None, arguments=(), reporting=False):
    config, changes, _ = layered(WORKFLOW, configfiles, given or {}, arguments, reporting)
    return config, changes


@pytest.fixture
def configfile(tmp_path):
    def write(text, name="mine.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_later_layers_win(configfile):
    one, two = configfile("task: {rows: 5, columns: 5}", "1.yaml"), configfile("task: {rows: 6}", "2.yaml")
    config, _ = layers([one, two], {"scale": "smoke", "pretrain": {"batch_size": "32"}})
    assert (config["task"]["rows"], config["task"]["columns"]) == (6, 5)
    assert config["pretrain"]["batch_size"] == 32
    assert config["pretrain"]["steps"] == SCALES["smoke"]["pretrain"]["steps"]
    assert config["pretrain"]["learning_rate"] == CONFIG["pretrain"]["learning_rate"]


def test_scale_of_a_configuration_file_counts_and_that_of_the_command_line_more(configfile):
    path = configfile("scale: smoke")
    assert layers([path])[0]["scale"] == "smoke"
    assert layers([path], {"scale": "paper"})[0]["scale"] == "paper"


def test_changes_are_what_is_not_as_in_the_scale(configfile):
    path = configfile("task: {rows: 4, rank: 2}\nseeds: [0]")
    _, changes = layers([path], {"scale": "smoke", "name": "mine"})
    assert changes == {"task": {"rank": 2}}
    assert layers(given={"scale": "smoke"})[1] == {}


def test_keys_that_the_scale_sets_are_counted():
    assert layered(WORKFLOW, [], {"scale": "smoke"}, [], False)[2] == len(flattened(SCALES["smoke"]))


def test_whole_numbers_are_integers_wherever_they_are_given(configfile):
    config, changes = layers([configfile("pretrain: {batch_size: 64.0}")], {"seeds": [0.0], "task": {"rank": "1.0"}})
    assert changes == {} and not violations(config)
    assert whole({"a": [1.0, {"b": 2.0}], "c": 0.5, "d": True, "e": "1.0"}) == {
        "a": [1, {"b": 2}],
        "c": 0.5,
        "d": True,
        "e": "1.0",
    }
    assert type(whole(1.0)) is int and type(config["pretrain"]["batch_size"]) is int


def test_unknown_scale_is_one_line():
    with pytest.raises(InputError, match="^config: scale: 'large' is not one of smoke, cpu, paper: choose"):
        layers(given={"scale": "large"})


def test_name_of_the_results_is_the_scale_unless_it_is_given():
    assert layers(given={"scale": "smoke"})[0]["name"] == "smoke"
    assert layers(given={"scale": "smoke", "name": "mine"})[0]["name"] == "mine"


@pytest.mark.parametrize("name", ["1e-4", "007", "1_000", "true", "null", "0x1f"])
def test_name_typed_on_the_command_line_stays_text(name):
    # Snakemake has read it as YAML before.
    given = {"scale": "smoke", "name": yaml.safe_load(name)}
    assert layers(given=given, arguments=["scale=smoke", f"name={name}"])[0]["name"] == name


def test_name_in_a_file_that_yaml_does_not_read_as_text_is_one_line(configfile):
    with pytest.raises(InputError, match=r"^config: name: 7 is not text: put it in quotes$"):
        layers([configfile("name: 007")])
    assert layers([configfile("name: '007'")])[0]["name"] == "007"


@pytest.mark.parametrize("name", ["smoke", "lr5e-4", "a.b_c-D", "smoke.1", "7"])
def test_name_is_accepted(name):
    check_name(name, "smoke")


@pytest.mark.parametrize(
    "name", ["", ".store", "..", "a/b", "a b", "ä", "a\n", "cpu", "paper", "reference", "benchmarks", 7, None]
)
def test_name_is_refused_in_one_line(name):
    with pytest.raises(InputError, match=r"^config: name: ") as raised:
        check_name(name, "smoke")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("task:\n  rows: 5\n  rank: 1\n  rows: 6\n", 4, "rows"),
        ("seeds: [0]\ntask: {rank: 1}\nseeds: [1]\n", 3, "seeds"),
        ('{"task": {"rank": 1, "rank": 2}}', 1, "rank"),
    ],
    ids=["nested", "top level", "JSON"],
)
def test_key_that_stands_twice_is_named_with_its_file_and_line(configfile, text, line, key):
    path = configfile(text)
    with pytest.raises(InputError) as raised:
        layers([path])
    assert str(raised.value) == f"{path}, line {line}: the key '{key}' stands there twice: remove one of the two"


@pytest.mark.parametrize(
    "content", [b"task: [1", b"- a\n- b\n", b"\xff\xfe", None], ids=["no YAML", "a list", "no UTF-8", "missing"]
)
def test_file_that_holds_no_configuration_is_one_line(tmp_path, content):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_yaml(path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)


def test_report_is_of_the_configuration_that_made_the_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, _ = layers(given={"scale": "smoke", "task": {"rank": 2}})
    (tmp_path / "results/smoke").mkdir(parents=True)
    (tmp_path / "results/smoke/config.yaml").write_text(yaml.safe_dump(config))
    reported, changes = layers(given={"scale": "smoke"}, reporting=True)
    assert reported == config and changes == {"task": {"rank": 2}}
    assert layers(given={"scale": "smoke"})[0]["task"]["rank"] == 1


def results_of(*names):
    for name in names:
        folder = Path("results", name)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump({**layers(given={"scale": "smoke"})[0], "name": name}))


def test_report_is_of_the_only_results_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results_of("mine")
    assert layers(reporting=True)[0]["name"] == "mine"


@pytest.mark.parametrize(
    ("names", "given", "line"),
    [
        ((), {}, "results/cpu: there are no results to report on: run the workflow first"),
        (("one", "two"), {}, "choose others by --config name=..., one of one, two"),
        (("one",), {"scale": "smoke"}, "results/smoke: there are no results to report on: choose others by"),
    ],
    ids=["none", "several", "not those that were named"],
)
def test_report_of_results_that_are_not_there_is_one_line(tmp_path, monkeypatch, names, given, line):
    monkeypatch.chdir(tmp_path)
    results_of(*names)
    with pytest.raises(InputError) as raised:
        layers(given=given, reporting=True)
    assert line in str(raised.value) and "\n" not in str(raised.value)
