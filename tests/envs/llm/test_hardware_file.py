"""Hardware files: reading, writing, and replicas that run on one."""

from dataclasses import replace

import pytest

from makespan.baselines.llm import make
from makespan.envs.core.contract import simulate
from makespan.envs.llm import hardware_file
from makespan.envs.llm.config import EngineConfig, FleetConfig, ReplicaConfig
from makespan.envs.llm.fleet import Fleet
from makespan.envs.llm.hardware_file import MeasuredHardware, read_hardware, to_toml
from makespan.envs.llm.replica import resolve, served_model, step_time
from makespan.envs.llm.step_time import ClosedForm
from makespan.traces.synthetic import synthetic

FORM = ClosedForm(
    linear=((8.5, 0.1), (6.7, 0.29)),
    decode=(0.0, 0.01, 0.0018),
    prefill=(0.7, 0.0, 0.0002),
    mixed=(1.0, 0.05, 0.0016, 0.005, 0.0002),
    lm_head=(0.0, 0.0),
    source='"measured" here',
    error="5 %",
)
ENGINE = EngineConfig(
    block_size=32, kv_blocks=193, max_num_batched_tokens=2048, max_num_seqs=16, max_model_len=1024
)
MEASURED = MeasuredHardware("tiny", ENGINE, FORM)


@pytest.fixture
def path(tmp_path):
    """A hardware file."""
    file = tmp_path / "tiny.toml"
    file.write_text(to_toml(MEASURED))
    return file


def test_what_is_written_is_read_back(path):
    assert read_hardware(path) == MEASURED


def test_mixed_steps_may_be_unknown(path):
    unknown = replace(MEASURED, step_time=replace(FORM, mixed=None))
    path.write_text(to_toml(unknown))
    assert "mixed" not in path.read_text()
    assert read_hardware(path) == unknown


def test_the_example_of_the_documentation_is_one(path):
    example = str(hardware_file.__doc__).partition("by hand:\n")[2]
    path.write_text("\n".join(line[4:] for line in example.splitlines()))
    assert read_hardware(path).engine.kv_blocks == 2588


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kv_blocks = 193", "", "engine.kv_blocks must be a positive integer, not None"),
        ("kv_blocks = 193", "kv_blocks = 1.5", "engine.kv_blocks must be a positive integer"),
        ("kv_blocks = 193", "kv_blocks = 1", "kv_blocks must be at least 2"),
        ("kv_blocks = 193", "kv_block = 193", "unknown field engine.kv_block; known: block_size"),
        ("[engine]", "[motor]", "unknown field motor"),
        ("[engine]", "[step_time.engine]", "there is no table [engine]"),
        ("lm_head = [0.0, 0.0]", "", "there is no field step_time.lm_head"),
        ("lm_head = [0.0, 0.0]", "lm_head = [0.0]", "step_time.lm_head must be an array of 2"),
        ("lm_head = [0.0, 0.0]", "lm_head = [0.0, nan]", "step_time.lm_head must be a number"),
        ("lm_head = [0.0, 0.0]", "lm_head = [0.0, -1]", "must not be negative"),
        ("lm_head = [0.0, 0.0]", "lm_head = [0.0, true]", "step_time.lm_head must be a number"),
        ('model = "tiny"', "model = 3", "model must be a string, not 3"),
        ('model = "tiny"', "model = tiny", "line 2"),
    ],
)
def test_a_bad_file_is_one_error_that_names_it(path, old, new, message):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=r"hardware file .*tiny\.toml: ") as caught:
        read_hardware(path)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"hardware file nowhere\.toml: No such file"):
        step_time(ReplicaConfig("nowhere.toml"))


def test_a_replica_has_the_limits_and_steps_of_its_file(path):
    replica = ReplicaConfig(str(path))
    assert resolve(replica).engine == ENGINE
    assert step_time(replica) == FORM
    assert step_time(replace(replica, speed=2.0)).step(4, 400) == FORM.step(4, 400) / 2
    assert served_model(replica) == "tiny"
    assert resolve(resolve(replica)) == resolve(replica)


def test_settings_that_are_given_win_over_the_file(path):
    engine = EngineConfig(max_num_seqs=4, kv_blocks=21, enable_prefix_caching=False)
    resolved = resolve(ReplicaConfig(str(path), engine=engine)).engine
    assert (resolved.max_num_seqs, resolved.kv_blocks, resolved.block_size) == (4, 21, 32)
    assert resolved.max_model_len == 640  # cut to what 20 blocks hold
    assert not resolved.enable_prefix_caching


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "Llama-2-7B"}, "was measured with model 'tiny', not 'Llama-2-7B'"),
        ({"tensor_parallel": 2}, "tensor_parallel must be 1"),
        ({"profile": "somewhere"}, "has step times of its own"),
        ({"engine": EngineConfig(block_size=16)}, "has blocks of 32 tokens"),
    ],
)
def test_what_was_not_measured_is_refused(path, change, message):
    replica = ReplicaConfig(**{"hardware": str(path)} | change)
    for use in (resolve, step_time):
        with pytest.raises(ValueError, match=message):
            use(replica)


def test_a_fleet_mixes_measured_and_known_hardware(path):
    fleet = FleetConfig((ReplicaConfig(str(path)), ReplicaConfig("A100")))
    log = simulate(Fleet(synthetic("steady", 40, 2.0), fleet), make("round_robin")).log
    assert (log["finish_s"] > log["arrival_s"]).all()
    slow, fast = ((log["finish_s"] - log["arrival_s"])[log["replica"] == r].mean() for r in (0, 1))
    assert slow != fast
