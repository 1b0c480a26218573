"""Reading measured kernel tables, real ones and broken ones."""

import csv
import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest

from makespan.envs.core.compiled import JIT
from makespan.envs.llm.coefficients import FITTED
from makespan.envs.llm.config import ReplicaConfig
from makespan.envs.llm.hardware import HARDWARE, MODELS, all_reduce_ms
from makespan.envs.llm.profiles import read_profile
from makespan.envs.llm.replica import step_time
from makespan.envs.llm.step_time import TableModel

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "llm"
MODEL = MODELS["Llama-3.1-8B"]
LAYERS = 32
GPUS = pytest.mark.parametrize("gpu", ["RTX4090", "RTXPRO6000"])


def real_profile(gpu: str) -> str:
    """Common start of the names of the measured tables."""
    profile = str(DATA / f"vllm_profile_{gpu}_Llama-3.1-8B")
    if not Path(f"{profile}_dense.csv.gz").exists():
        pytest.skip(f"measured tables of the {gpu} are not here")
    return profile


def rows_of(gpu: str, kind: str):
    with gzip.open(f"{real_profile(gpu)}_{kind}.csv.gz", "rt") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def measured():
    """The step-time model of each measured GPU, without overhead; read once."""
    known: dict[str, TableModel] = {}

    def model(gpu):
        if gpu not in known:
            profile = read_profile(real_profile(gpu), HARDWARE[gpu], MODEL)
            known[gpu] = profile.with_overhead(0.0)
        return known[gpu]

    return model


def linear_ms(gpu, tokens):
    """Head of one sequence and linear layers, straight from the rows of the files."""
    heads = [row for row in rows_of(gpu, "per_sequence") if row["sequences"] == "1"]
    total = sum(float(row["time_us"]) for row in heads)
    for row in rows_of(gpu, "dense"):
        if row["tokens"] == str(tokens):
            times = {"embedding": 1, "final_layernorm": 1, "layernorm": 2 * LAYERS}
            total += times.get(row["layer"], LAYERS) * float(row["time_us"])
    return total * 1e-3


@GPUS
def test_whole_prefill_steps_at_measured_sizes(measured, gpu):
    prefills = [row for row in rows_of(gpu, "attention") if row["n_decode"] == "0"]
    for row in prefills:
        tokens = int(row["prefill_chunk"])
        if row["kv_prefill"] == "0" and tokens in (16, 512, 2048):
            expected = linear_ms(gpu, tokens) + float(row["time_us"]) * LAYERS * 1e-3
            step = measured(gpu).step(0, 0, 1, tokens, tokens * tokens / 2)
            assert step == pytest.approx(expected * 1e-3, rel=1e-9)


@GPUS
def test_attention_at_every_measured_point(measured, gpu):
    model = measured(gpu)
    rows = rows_of(gpu, "attention")[:: 1 if JIT else 97]
    for row in rows:
        chunk, prior, decodes, context = (
            int(row[name]) for name in ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
        )
        step = {"decode_sequences": decodes, "decode_context": decodes * context}
        if chunk:
            work = chunk * (prior + chunk / 2)
            step |= {"prefill_sequences": 1, "prefill_tokens": chunk, "prefill_work": work}
        grids = (model.dense.axes[0], model.dense.values), (model.head.axes[0], model.head.values)
        tokens, sequences = decodes + chunk, decodes + bool(chunk)
        base = sum(np.interp(x, *grid) for x, grid in zip((tokens, sequences), grids, strict=True))
        attention = model.step(**step) * 1e3 - base
        assert attention == pytest.approx(float(row["time_us"]) * LAYERS * 1e-3, rel=1e-6, abs=1e-8)


@GPUS
def test_decode_attention_is_affine_in_total_context(measured, gpu):
    """Why interpolation is linear: R squared of time against sequences * context is 0.9999."""
    rows = [row for row in rows_of(gpu, "attention") if row["prefill_chunk"] == "0"]
    total = np.array([int(row["n_decode"]) * int(row["kv_decode"]) for row in rows])
    time = np.array([float(row["time_us"]) for row in rows])
    assert np.corrcoef(total, time)[0, 1] ** 2 > 0.9999


@GPUS
def test_closed_form_agrees_with_the_tables_it_was_fitted_to(measured, gpu):
    form = FITTED[gpu, "Llama-3-8B", 1].with_overhead(0.0)
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(300 if JIT else 30):
        decodes, context = int(rng.integers(1, 129)), int(rng.integers(100, 1500))
        chunk, prior = int(rng.integers(16, 1024)), int(rng.integers(0, 2000))
        step = (decodes, decodes * context, 1, chunk, chunk * (prior + chunk / 2))
        ratios.append(form.step(*step) / measured(gpu).step(*step))
    assert np.mean(np.abs(np.array(ratios) - 1)) < 0.06
    assert 0.7 < min(ratios) < max(ratios) < 1.3


@GPUS
def test_tables_extrapolate_like_the_closed_form(measured, gpu):
    form = FITTED[gpu, "Llama-3-8B", 1].with_overhead(0.0)
    for tokens in (4096, 8192, 16384):
        step = (0, 0, 1, tokens, tokens * tokens / 2)
        assert measured(gpu).step(*step) == pytest.approx(form.step(*step), rel=0.1)
    for batch in (300, 400):
        step = (batch, 1000 * batch)
        assert measured(gpu).step(*step) == pytest.approx(form.step(*step), rel=0.15)
    near, far = (measured(gpu).step(1, n, 1, 100, 100 * (n + 50.0)) for n in (16_384, 65_536))
    assert near < far < 4 * near


def test_a_replica_reads_its_profile():
    replica = ReplicaConfig(
        "RTX4090", "Llama-3.1-8B", profile=real_profile("RTX4090"), step_overhead_ms=0.5
    )
    model = step_time(replica)
    assert isinstance(model, TableModel)
    assert model.overhead_ms == 0.5
    assert "kernel tables" in model.source


CORNERS = list(itertools.product((16, 64), (0, 64), (1, 4), (16, 64)))

POINTS = [
    *[(0, 0, n, k) for n in (1, 4) for k in (16, 64)],
    *[(c, p, 0, 0) for c in (16, 64) for p in (0, 64)],
    *CORNERS[:-1],  # one corner is missing, and two points lie between
    (32, 0, 1, 16),
    (64, 64, 4, 32),
]

SMALL = {
    "dense": "layer,tokens,time_us\n"
    "qkv_proj,1,100\nqkv_proj,8,100\nqkv_proj,16,200\n"
    "layernorm,1,1\nlayernorm,8,1\nlayernorm,16,1\n"
    "embedding,1,3\nembedding,8,3\nembedding,16,3\n",
    "per_sequence": "layer,sequences,time_us\nlm_head,1,1000\nlm_head,4,1300\n",
    "attention": "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n"
    + "".join(f"{c},{p},{n},{k},{10 + c + p + n * k}\n" for c, p, n, k in POINTS),
}


@pytest.fixture
def profile(tmp_path):
    """Write the small profile, with some tables replaced; its folder."""

    def write(compress=False, **tables):
        for kind, text in (SMALL | tables).items():
            if isinstance(text, str):
                text = text.encode()
            if text is not None:
                name = f"{kind}.csv.gz" if compress else f"{kind}.csv"
                (tmp_path / name).write_bytes(gzip.compress(text) if compress else text)
        return str(tmp_path)

    return write


def read(profile, tensor_parallel=1):
    return read_profile(profile, HARDWARE["H100"], MODEL, tensor_parallel).with_overhead(0.0)


@pytest.mark.parametrize("compress", [False, True])
def test_layers_are_counted_once_twice_or_per_layer(profile, compress):
    model = read(profile(compress))
    # 3 + 32 * (100 + 2 * 1) dense, 1000 head, 32 * (10 + 16) attention
    assert model.step(1, 16) == pytest.approx((3 + 32 * 102 + 1000 + 32 * 26) * 1e-6)


def test_curves_go_on_with_the_slope_of_their_upper_half(profile):
    model = read(profile())
    steps = [model.step(n, 0) for n in (16, 32, 64)]
    # dense: 32 layers * 100 us over 8 tokens; head: 100 us per sequence; attention: 0 at context 0
    slope = 32 * 100e-6 / 8 + 100e-6
    assert steps[1] - steps[0] == pytest.approx(16 * slope)
    assert steps[2] - steps[1] == pytest.approx(32 * slope)


def test_gaps_between_measured_points_are_filled(profile):
    model = read(profile())
    assert [len(axis) for axis in model.mixed.axes] == [3, 2, 2, 3]
    chunks, priors, decodes, contexts = np.meshgrid(*model.mixed.axes, indexing="ij")
    expected = 32e-3 * (10 + chunks + priors + decodes * contexts)
    np.testing.assert_allclose(model.mixed.values, expected)


def test_tensor_parallelism_adds_all_reduces(profile):
    folder = profile()
    base, per_token = all_reduce_ms(HARDWARE["H100"], MODEL, 2)
    added = read(folder, 2).step(8, 512) - read(folder).step(8, 512)
    assert added == pytest.approx((base + 8 * per_token) * 1e-3)


def replaced(kind, old, new):
    assert old in SMALL[kind]
    return {kind: SMALL[kind].replace(old, new, 1)}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            replaced("dense", "layernorm,8,1", "layernorm,8,x"),
            "dense.csv, line 6, column time_us: 'x'",
        ),
        (replaced("dense", "layernorm,8,1", "layernorm,-8,1"), "line 6, column tokens: '-8'"),
        (replaced("dense", "layernorm,8,1", "layernorm,8,inf"), "line 6, column time_us: 'inf'"),
        (replaced("dense", "layernorm,8,1", "layernorm,8"), "line 6: 2 fields, 3 columns"),
        (replaced("dense", "layernorm,8,1", "layernorm,1,1"), "line 6, column tokens: layernorm 1"),
        (replaced("dense", "layernorm,8,1\n", ""), "layernorm was not measured at 8"),
        (replaced("dense", "tokens", "batch"), "line 1: there is no column tokens"),
        ({"dense": ""}, "dense.csv: the file is empty"),
        ({"dense": "layer,tokens,time_us\n"}, "dense.csv: the table has no rows"),
        ({"dense": "layer,tokens,time_us\nx,1,1\n"}, "at least two sizes"),
        ({"dense": gzip.compress(SMALL["dense"].encode())[:-9]}, "not a readable CSV file"),
        ({"dense": b"layer,tokens,time_us\n\xff,1,1\n"}, "not a readable CSV file"),
        ({"per_sequence": None}, "has no per_sequence table; tried"),
        (replaced("attention", "0,0,1,16,", "0,0,1,64,"), "line 3: this combination"),
        (replaced("attention", "16,64,0,0,90\n", ""), "prefill attention: too few points"),
        (
            {"attention": SMALL["attention"].split("16,0,0,0")[0]},
            "nothing was measured for prefill",
        ),
        (
            {"attention": "\n".join(SMALL["attention"].split("\n")[:3])},
            "decode attention: each axis",
        ),
    ],
)
def test_bad_profiles_name_file_line_and_column(profile, tables, message):
    folder = profile(**tables)
    with pytest.raises(ValueError, match=message):
        read(folder)
