"""The configuration of a run and its file."""

import dataclasses
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.envs.llm.config import EngineConfig, GaugeConfig, PredictorConfig
from makespan.experiments.configuration import split, to_toml
from makespan.experiments.run_config import RunConfig, from_toml

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@given(
    trace=NAMES,
    load=st.floats(0, 10),
    seeds=st.sampled_from(["1", "5", "3,1", "7,"]),
    watermark=st.floats(0, 1, exclude_max=True),
    caching=st.booleans(),
    kind=st.sampled_from(["none", "oracle"]),
)
def test_file_round_trip(tmp_path_factory, trace, load, seeds, watermark, caching, kind):
    config = RunConfig(
        trace=trace,
        load=load,
        seeds=seeds,
        engine=EngineConfig(watermark=watermark, enable_prefix_caching=caching),
        gauges=GaugeConfig(period_s=2.5),
        predictor=PredictorConfig(kind=kind),
    )
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert from_toml(path) == config


def test_the_file_is_toml_with_a_table_per_part():
    values = tomllib.loads(to_toml(RunConfig()))
    assert values == dataclasses.asdict(RunConfig())
    assert values["engine"]["gpu_memory_utilization"] == 0.92


def test_absent_settings_take_their_defaults(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("replicas = 8\n[engine]\nwatermark = 0\n", encoding="utf-8")
    assert from_toml(path) == RunConfig(replicas=8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("replicas = ", "Invalid value"),
        ("replica = 4", "unknown setting 'replica'"),
        ("[engine]\nblock = 4", "unknown setting 'block'"),
        ("replicas = 0", "--replicas must be at least 1"),
        ("replicas = 2.5", "replicas must be of type int"),
        ("replicas = true", "replicas must be of type int"),
        ("load = true", "load must be of type float"),
        ("trace = 4", "trace must be of type str"),
        ('env = "chess"', "env must be one of llm_router"),
        ("[engine]\nwatermark = 3.0", "watermark must be in"),
        ('[engine]\npolicy = "lifo"', "policy must be one of fcfs, priority, sjf"),
        ("engine = 3", "engine must be a table"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        from_toml(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replicas": 0}, "--replicas"),
        ({"tensor_parallel": 0}, "--tensor-parallel"),
        ({"load": -0.5}, "--load"),
        ({"load": float("nan")}, "--load"),
        ({"rate": float("inf")}, "--rate"),
        ({"requests": -1}, "--requests"),
        ({"load": 0.5, "rate": 3.0}, "--load and --rate"),
        ({"hardware": " ,"}, "--hardware"),
        ({"policy": ""}, "--policy"),
        ({"seeds": "three"}, "--seeds"),
        ({"seeds": "0"}, "--seeds"),
        ({"seeds": ","}, "--seeds"),
        ({"seeds": "1,1"}, "--seeds"),
        ({"seeds": "-1,2"}, "--seeds"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**settings)


@pytest.mark.parametrize(
    ("text", "seeds"), [("1", [0]), ("3", [0, 1, 2]), ("4,9", [4, 9]), ("7,", [7])]
)
def test_seeds(text, seeds):
    assert RunConfig(seeds=text).seed_list == seeds


def test_other_configurations_get_other_folders():
    names = {RunConfig().default_name, RunConfig(load=0.5).default_name}
    names.add(RunConfig(engine=EngineConfig(policy="sjf")).default_name)
    assert len(names) == 3
    assert RunConfig(trace="../data/some.trace.csv.gz").default_name.startswith("llm_router-some-")


def test_split():
    assert split(" a, b,,c ") == ["a", "b", "c"]
