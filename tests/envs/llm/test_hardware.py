"""Catalogue: model shapes, fitted sets, roofline, memory, and what a replica makes of them."""

import json
from dataclasses import replace
from statistics import geometric_mean

import pytest

from makespan.envs.llm.coefficients import CROSS_CHECKS, FITTED
from makespan.envs.llm.config import EngineConfig, ReplicaConfig
from makespan.envs.llm.hardware import (
    HARDWARE,
    MODELS,
    HardwareSpec,
    all_reduce_ms,
    kv_blocks,
    model_config,
)
from makespan.envs.llm.replica import hardware_table, resolve, step_time
from makespan.envs.llm.roofline import roofline

LLAMA_3_8B = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}

MIXTRAL_8X7B = LLAMA_3_8B | {"vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2}

STEPS = (
    {"decode_sequences": 1, "decode_context": 1000},
    {"decode_sequences": 64, "decode_context": 64_000},
    {"decode_sequences": 256, "decode_context": 256_000},
    {"prefill_sequences": 1, "prefill_tokens": 2048, "prefill_work": 2048 * 1024.0},
    {
        "decode_sequences": 64,
        "decode_context": 64_000,
        "prefill_sequences": 1,
        "prefill_tokens": 512,
        "prefill_work": 512 * 256.0,
    },
)


@pytest.fixture
def config_json(tmp_path):
    """Write a config.json into a folder of the model's name; its path."""

    def write(fields, name="some-model"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(fields))
        return str(folder / "config.json")

    return write


@pytest.mark.parametrize(
    ("name", "parameters", "kv_kib"),
    [
        ("Llama-2-7B", 6_738_415_616, 512),
        ("Llama-2-70B", 68_976_648_192, 320),
        ("Llama-3-8B", 8_030_261_248, 128),
        ("Llama-3-70B", 70_553_706_496, 320),
        ("Mistral-7B-v0.3", 7_248_023_552, 128),
    ],
)
def test_parameters_and_kv_bytes_are_the_published_ones(name, parameters, kv_kib):
    assert MODELS[name].parameters == parameters
    assert MODELS[name].kv_bytes_per_token == kv_kib * 1024


def test_qwen_lacks_only_its_biases():
    assert MODELS["Qwen2.5-7B"].parameters == pytest.approx(7_615_616_512, rel=2e-5)


def test_mixtral_has_its_published_size(config_json):
    mixtral = model_config(config_json(MIXTRAL_8X7B))
    assert mixtral.parameters == 46_702_792_704
    assert mixtral.active_parameters < 0.3 * mixtral.layer_parameters


def test_config_json_equals_the_built_in_model(config_json):
    model = model_config(config_json(LLAMA_3_8B))
    assert model.name == "some-model"
    assert model == replace(MODELS["Llama-3-8B"], name="some-model")
    assert model.same_shape(MODELS["Llama-3.1-8B"])
    assert not model.same_shape(MODELS["Mistral-7B-v0.3"])


def test_config_json_defaults_are_those_of_transformers(config_json):
    fields = {
        k: v for k, v in LLAMA_3_8B.items() if k not in ("num_key_value_heads", "torch_dtype")
    }
    model = model_config(config_json(fields | {"dtype": "float32", "head_dim": None}))
    assert model.num_key_value_heads == 32
    assert model.head_dim == 128
    assert model.bytes_per_parameter == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "hidden_size must be an integer"),
        ({"vocab_size": "many"}, "vocab_size must be an integer"),
        ({"intermediate_size": 0}, "intermediate_size must be positive"),
        ({"num_attention_heads": 0}, "num_attention_heads must be"),
        ({"torch_dtype": "float8"}, "unknown torch_dtype"),
        ({"num_local_experts": 8}, "num_experts_per_tok"),
    ],
)
def test_bad_config_json_names_file_and_field(config_json, change, message):
    path = config_json(LLAMA_3_8B | {"head_dim": 128} | change)
    with pytest.raises(ValueError, match=message) as raised:
        model_config(path)
    assert path in str(raised.value)


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[1]", "not a JSON object")])
def test_unreadable_config_json(tmp_path, text, message):
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        model_config(str(path))
    with pytest.raises(ValueError, match="No such file"):
        model_config(str(tmp_path / "absent.json"))


def test_llama_2_7b_on_a100_by_hand():
    model = FITTED["A100", "Llama-2-7B", 1].with_overhead(0.0)
    # 8.84 + .0280*16; .58 + .0271*16 + 3.13e-4*16000; head .18 for 1 to .33 for 256 sequences
    expected = 9.288 + 6.0216 + 0.18 + 15 * 0.15 / 255
    seconds = model.step(decode_sequences=16, decode_context=16_000)
    assert seconds == pytest.approx(expected * 1e-3)


def test_llama_3_70b_prefill_on_four_h100_by_hand():
    model = FITTED["H100", "Llama-3-70B", 4].with_overhead(0.0)
    # .80 + .0610*2000; .92 + 5.7e-4*2000 + 1.08e-6*2e6; head .36
    expected = 122.8 + 4.22 + 0.36
    seconds = model.step(prefill_sequences=1, prefill_tokens=2000, prefill_work=2e6)
    assert seconds == pytest.approx(expected * 1e-3)


def test_mixed_attention_of_the_rtx_4090_by_hand():
    model = FITTED["RTX4090", "Llama-3-8B", 1]
    step = STEPS[-1]
    # 5.21 + .0881*576; .837 + .0338*64 + 3.03e-4*64000 + 3.9e-4*512 + 4.7e-6*131072; head; 1.0
    expected = 55.9556 + (0.837 + 2.1632 + 19.392 + 0.19968 + 0.6160384) + 1.299 + 1.0
    assert model.step(**step) == pytest.approx(expected * 1e-3)
    assert replace(model, mixed=None).step(**step) < model.step(**step)


def test_a40_takes_its_attention_from_its_bandwidth():
    model = FITTED["A40", "Llama-2-7B", 1]
    assert model.linear[0] == (24.46, 0.0640)
    assert model.decode[2] == pytest.approx(524_288 / (696e6 * 0.82))


def test_no_fitted_set_reads_memory_faster_than_its_peak():
    for (name, model, degree), form in FITTED.items():
        share = MODELS[model].kv_share(degree)
        peak = MODELS[model].kv_bytes_per_token * share / (HARDWARE[name].bandwidth_gb_s * 1e6)
        assert form.decode[2] > 0.98 * peak, (name, model)


def test_every_fitted_set_says_where_it_comes_from():
    for form in (*FITTED.values(), *CROSS_CHECKS.values()):
        assert "fit" in form.source
        assert form.error


@pytest.mark.parametrize("key", FITTED, ids=str)
def test_roofline_is_near_the_fitted_set(key):
    hardware, model, degree = key
    form = roofline(HARDWARE[hardware], MODELS[model], degree)
    ratios = [form.step(**step) / FITTED[key].step(**step) for step in STEPS]
    assert min(ratios) >= 0.74
    assert max(ratios) <= 1.22


def test_roofline_is_unbiased_over_all_fitted_sets():
    ratios = [
        roofline(HARDWARE[key[0]], MODELS[key[1]], key[2]).step(**step) / form.step(**step)
        for key, form in FITTED.items()
        for step in STEPS
    ]
    assert geometric_mean(ratios) == pytest.approx(1.0, abs=0.08)


def test_vidur_and_aiconfigurator_agree_on_the_a100_floor():
    for key, other in CROSS_CHECKS.items():
        if key[0] == "A100":
            ratio = other.step(**STEPS[0]) / FITTED[key].step(**STEPS[0])
            assert ratio == pytest.approx(1.0, abs=0.1)


def test_all_reduce_is_a_ring():
    hardware = HardwareSpec("toy", 1.0, 1.0, 1, link_gb_s=100.0, link_latency_ms=0.01)
    model = MODELS["Llama-3-8B"]
    assert all_reduce_ms(hardware, model, 1) == (0.0, 0.0)
    base, per_token = all_reduce_ms(hardware, model, 4)
    assert base == pytest.approx(64 * 0.01)
    assert per_token == pytest.approx(64 * 1.5 * 8192 / 100e9 * 1e3)


def test_tensor_parallelism_speeds_up_but_not_linearly():
    model = MODELS["Llama-3-70B"]
    four, eight = (roofline(HARDWARE["H100"], model, n).step(**STEPS[1]) for n in (4, 8))
    assert eight < four < 2 * eight


def test_mixture_of_experts_reads_all_and_computes_some(config_json):
    mixtral = model_config(config_json(MIXTRAL_8X7B))
    dense = replace(mixtral, num_local_experts=0, num_experts_per_tok=0)
    h100 = HARDWARE["H100"]
    moe, plain = roofline(h100, mixtral), roofline(h100, dense)
    assert moe.linear[0][0] > 6 * plain.linear[0][0]
    assert moe.linear[1][1] < 2 * plain.linear[1][1]


def test_kv_blocks_of_the_measured_rtx_4090():
    # LLMServingSim, bench/examples/RTX4090/Llama-3.1-8B/vllm/meta.json: 2588 blocks
    blocks = kv_blocks(HARDWARE["RTX4090"], MODELS["Llama-3.1-8B"], 1, 0.9, 16, 2048, 256)
    assert blocks == pytest.approx(2588, rel=0.01)


def test_kv_blocks_follow_from_bytes():
    a100, model = HARDWARE["A100"], MODELS["Llama-3-8B"]
    assert kv_blocks(a100, model, block_size=32) == kv_blocks(a100, model) // 2
    more = kv_blocks(a100, model, gpu_memory_utilization=0.92) - kv_blocks(
        a100, model, gpu_memory_utilization=0.82
    )
    assert more == pytest.approx(0.1 * a100.memory_bytes / (16 * 131_072), abs=1)
    assert kv_blocks(a100, model, max_num_seqs=1024) < kv_blocks(a100, model)


def test_key_value_heads_are_never_split():
    qwen = MODELS["Qwen2.5-7B"]
    assert qwen.kv_share(2) == 0.5
    assert qwen.kv_share(28) == 0.25


@pytest.mark.parametrize(
    ("hardware", "tokens", "sequences"),
    [("A100", 2048, 256), ("H100", 8192, 1024), ("RTX4090", 2048, 256), ("RTXPRO6000", 8192, 1024)],
)
def test_resolve_takes_the_defaults_of_vllm(hardware, tokens, sequences):
    engine = resolve(ReplicaConfig(hardware, "Llama-3-8B")).engine
    assert engine.max_num_batched_tokens == tokens
    assert engine.max_num_seqs == sequences
    assert engine.max_model_len == 8192


def test_resolve_keeps_what_was_given():
    engine = EngineConfig(
        block_size=32,
        kv_blocks=100,
        max_num_batched_tokens=512,
        max_num_seqs=64,
        max_model_len=1000,
    )
    replica = ReplicaConfig("H100", "Llama-3-8B", engine=engine)
    assert resolve(replica) == replica
    assert resolve(resolve(ReplicaConfig())) == resolve(ReplicaConfig())


def test_longest_sequence_is_cut_to_the_pool():
    engine = resolve(ReplicaConfig("RTX4090", "Llama-3.1-8B")).engine
    assert engine.max_model_len == (engine.kv_blocks - 1) * 16 < 131_072


def test_whole_prompts_need_a_budget_without_chunking():
    engine = EngineConfig(enable_chunked_prefill=False)
    assert resolve(ReplicaConfig(engine=engine)).engine.max_num_batched_tokens == 4096
    short = EngineConfig(max_model_len=16, max_num_seqs=4, kv_blocks=64)
    assert resolve(ReplicaConfig(engine=short)).engine.max_num_batched_tokens == 64
    few = EngineConfig(max_num_batched_tokens=32)
    assert resolve(ReplicaConfig(engine=few)).engine.max_num_seqs == 32


@pytest.mark.parametrize(
    ("replica", "message"),
    [
        (ReplicaConfig(hardware="RTX4080"), "Did you mean 'RTX4090'"),
        (ReplicaConfig(model="Llama-3-8b"), "Did you mean 'Llama-3-8B'"),
        (ReplicaConfig("RTX4090", "Llama-3-70B", 4), "does not fit on 4 x RTX4090"),
        (ReplicaConfig("H100", "Llama-3-8B", 3), "tensor_parallel 3 does not divide"),
        (ReplicaConfig(engine=EngineConfig(kv_blocks=11, max_model_len=161)), "160 tokens"),
    ],
)
def test_resolve_refuses(replica, message):
    with pytest.raises(ValueError, match=message):
        resolve(replica)


def test_step_time_prefers_fitted_sets_to_the_roofline(config_json):
    fitted = FITTED["H100", "Llama-3-8B", 1]
    assert step_time(ReplicaConfig("H100", "Llama-3-8B")) == fitted
    assert step_time(ReplicaConfig("H100", "Llama-3.1-8B")) == fitted
    assert step_time(ReplicaConfig("H100", config_json(LLAMA_3_8B))) == fitted
    assert "roofline" in step_time(ReplicaConfig("H100", "Qwen2.5-7B")).source
    assert "roofline" in step_time(ReplicaConfig("H100", "Llama-3-8B", 4)).source


def test_step_time_applies_overhead_and_speed():
    fitted = FITTED["A100", "Llama-2-7B", 1]
    plain = fitted.with_overhead(0.0).step(**STEPS[1])
    replica = ReplicaConfig(speed=2.0, step_overhead_ms=3.0)
    assert step_time(replica).step(**STEPS[1]) == pytest.approx((plain + 3e-3) / 2)


def test_hardware_table_lists_every_set():
    rows = hardware_table()
    assert len(rows) == len(FITTED) + len(CROSS_CHECKS) + len(HARDWARE)
    assert {row["hardware"] for row in rows} == set(HARDWARE)
    assert all(row["source"] and row["error"] for row in rows)
    assert {row["kind"] for row in rows} == {"fitted", "cross-check", "roofline"}
