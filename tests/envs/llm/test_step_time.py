"""Step-time models: formulas by hand, runs against sums of steps, and the inverse of runs."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.envs.core.compiled import JIT
from makespan.envs.llm.step_kernels import decode_run_seconds, decode_steps_by, step_seconds
from makespan.envs.llm.step_time import ClosedForm, Grid, TableModel

FORM = ClosedForm(
    linear=((10.0, 0.01), (4.0, 0.05)),
    decode=(0.5, 0.02, 1e-4),
    prefill=(0.4, 1e-3, 3e-6),
    mixed=(0.9, 0.03, 3e-4, 4e-4, 5e-6),
    lm_head=(1.0, 0.004),
    overhead_ms=0.25,
)


def grid(*axes, of):
    """The values of the function `of` on the grid that `axes` span."""
    knots = tuple(np.array(axis, dtype=float) for axis in axes)
    return Grid(knots, of(*np.meshgrid(*knots, indexing="ij")))


def bumpy_decode(sequences, context):
    """Decode attention with a bend at 512 tokens, so that runs cross segments of other slopes."""
    return 0.3 + 1e-4 * sequences * context + 2e-3 * np.maximum(context - 512, 0)


TABLES = TableModel(
    dense=grid([1, 64, 256, 2048], of=lambda n: np.maximum(10 + 0.01 * n, 4 + 0.05 * n)),
    head=grid([1, 256], of=lambda n: 1 + 0.004 * n),
    decode=grid([1, 8, 64, 256], [16, 128, 512, 600, 2048, 8192], of=bumpy_decode),
    prefill=grid([16, 256, 2048], [0, 1024, 8192], of=lambda c, x: 0.4 + 5e-6 * c * (x + c / 2)),
    mixed=grid(
        [16, 256, 2048],
        [0, 1024, 8192],
        [1, 8, 64, 128],
        [16, 512, 8192],
        of=lambda c, x, n, k: 0.9 + 5e-6 * c * (x + c / 2) + 3e-4 * n * k,
    ),
    overhead_ms=0.25,
)

MODELS = pytest.mark.parametrize("model", [FORM, TABLES], ids=["closed form", "tables"])


def decode_step(model, sequences, context):
    return model.step(decode_sequences=sequences, decode_context=context)


def test_memory_bound_decode_step():
    # 10 + .01*8 linear, .5 + .02*8 + 1e-4*4000 attention, 1 + .004*8 head, .25 overhead
    assert decode_step(FORM, 8, 4000) == pytest.approx(12.422e-3)


def test_compute_bound_prefill_step():
    # 4 + .05*1000 linear, .4 + 1 + 3e-6*500000 attention, 1 + .004 head, .25 overhead
    seconds = FORM.step(prefill_sequences=1, prefill_tokens=1000, prefill_work=500_000.0)
    assert seconds == pytest.approx(58.154e-3)


MIXED_STEP = {
    "decode_sequences": 8,
    "decode_context": 4000,
    "prefill_sequences": 2,
    "prefill_tokens": 100,
    "prefill_work": 20_000.0,
    "prefill_context": 150,
}


def test_mixed_step_has_its_own_attention():
    # 10 + .01*108 linear, .9 + .24 + 1.2 + .04 + .1 attention, 1 + .04 head, .25 overhead
    assert FORM.step(**MIXED_STEP) == pytest.approx(14.85e-3)


def test_unknown_mixed_attention_adds_up_with_one_base():
    # .5 + .16 + .4 decode and .1 + .06 prefill instead of the mixed term above
    additive = replace(FORM, mixed=None)
    assert additive.step(**MIXED_STEP) == pytest.approx(13.59e-3)


def test_a_step_of_nothing_has_no_attention():
    assert FORM.step() == pytest.approx((10 + 1 + 0.25) * 1e-3)
    assert TABLES.step() == pytest.approx(TABLES.step(1, 1) - 0.3001e-3 - 0.014e-3)


@MODELS
def test_speed_divides_and_overhead_adds(model):
    before = model.step(**MIXED_STEP)
    assert model.with_speed(2.0).step(**MIXED_STEP) == pytest.approx(before / 2)
    assert model.with_speed(2.0).with_speed(3.0).speed == 6.0
    slower = model.with_overhead(1.25).step(**MIXED_STEP)
    assert slower == pytest.approx(before + 1e-3)


@MODELS
def test_models_of_other_numbers_are_not_equal(model):
    decode = {FORM: (0.5, 0.02, 2e-4), TABLES: TABLES.prefill}[model]
    assert replace(model, decode=decode) != model


@MODELS
def test_packed_models_are_flat_and_self_describing(model):
    packed = model.pack()
    assert packed.dtype == np.float64
    assert packed.ndim == 1
    assert packed[0] == (0.0 if model is FORM else 1.0)
    moved = np.concatenate([packed, np.full(7, np.nan)])
    assert step_seconds(moved, 8, 8, 8, 4000, 0, 0, 0.0, 0) == decode_step(model, 8, 4000)


BATCHES = st.tuples(
    st.integers(1, 300),  # sequences
    st.integers(1, 3000),  # mean context
    st.integers(1, 1500),  # steps
)


@MODELS
@settings(max_examples=150 if JIT else 8, deadline=None)
@given(batch=BATCHES, extra=st.integers(0, 299))
def test_a_run_is_the_sum_of_its_steps(model, batch, extra):
    sequences, mean, steps = batch
    context = sequences * mean + extra % sequences
    contexts = range(context, context + steps * sequences, sequences)
    expected = math.fsum(decode_step(model, sequences, each) for each in contexts)
    assert model.decode_run(sequences, context, steps) == pytest.approx(expected, rel=1e-12)


@MODELS
@settings(max_examples=200 if JIT else 20, deadline=None)
@given(batch=BATCHES, share=st.floats(-0.1, 1.2))
def test_steps_by_is_the_smallest_run_that_lasts(model, batch, share):
    sequences, mean, limit = batch
    context = sequences * mean
    packed = model.pack()
    seconds = share * decode_run_seconds(packed, sequences, context, limit)
    steps = decode_steps_by(packed, sequences, context, seconds, limit)
    assert 1 <= steps <= limit
    if steps < limit:
        assert decode_run_seconds(packed, sequences, context, steps) >= seconds
    if steps > 1:
        assert decode_run_seconds(packed, sequences, context, steps - 1) < seconds


@MODELS
@pytest.mark.parametrize("steps", [1, 2, 37, 500, 999])
def test_steps_by_finds_the_very_end_of_a_run(model, steps):
    packed = model.pack()
    seconds = decode_run_seconds(packed, 24, 24 * 333, steps)
    assert decode_steps_by(packed, 24, 24 * 333, seconds, 1000) == steps
    later = np.nextafter(seconds, np.inf)
    assert decode_steps_by(packed, 24, 24 * 333, later, 1000) == steps + 1


@MODELS
def test_steps_by_stays_within_its_limit(model):
    packed = model.pack()
    assert decode_steps_by(packed, 4, 400, np.inf, 50) == 50
    assert decode_steps_by(packed, 4, 400, 0.0, 50) == 1
    assert decode_steps_by(packed, 4, 400, -1.0, 50) == 1


def test_tables_reproduce_their_knots():
    attention = {"rest": decode_step(TABLES, 8, 8 * 128) - 1e-3 * bumpy_decode(8, 128)}
    assert attention["rest"] == pytest.approx((10.0 + 0.08 + 1.032 + 0.25) * 1e-3)
    for context in (16, 512, 600, 8192):
        expected = attention["rest"] + 1e-3 * bumpy_decode(8, context)
        assert decode_step(TABLES, 8, 8 * context) == pytest.approx(expected)


def test_tables_interpolate_and_extrapolate_linearly():
    middle = decode_step(TABLES, 8, 8 * 320)  # half way from 128 to 512
    ends = decode_step(TABLES, 8, 8 * 128), decode_step(TABLES, 8, 8 * 512)
    assert middle == pytest.approx(sum(ends) / 2)
    far = decode_step(TABLES, 8, 8 * 16384) - decode_step(TABLES, 8, 8 * 8192)
    near = decode_step(TABLES, 8, 8 * 8192) - decode_step(TABLES, 8, 8 * 7168)
    assert far == pytest.approx(8 * near)


def prefill(model, *chunks, **decode):
    """A step of these (chunk, context before it) pairs."""
    work = sum(chunk * (context + chunk / 2) for chunk, context in chunks)
    tokens = sum(chunk for chunk, _ in chunks)
    return model.step(
        prefill_sequences=len(chunks),
        prefill_tokens=tokens,
        prefill_work=work,
        prefill_context=sum(context for _, context in chunks),
        **decode,
    )


DECODES = pytest.mark.parametrize(
    "decode", [{}, {"decode_sequences": 8, "decode_context": 4096}], ids=["prefill", "mixed"]
)


@DECODES
def test_chunks_with_equal_work_and_tokens_cost_the_same(decode):
    # 2 x 128 tokens after 1088 do the work of 256 tokens after 1024: 256 * 1152
    two = prefill(TABLES, (128, 1088), (128, 1088), **decode)
    one = prefill(TABLES, (256, 1024), **decode)
    head = 0.004e-3
    assert two == pytest.approx(one + head)


@DECODES
def test_short_chunks_cost_less_than_one_long_one(decode):
    whole = prefill(TABLES, (256, 0), **decode)
    parts = prefill(TABLES, *[(64, 0)] * 4, **decode) - 3 * 0.004e-3
    least = prefill(TABLES, *[(1, 0)] * 256, **decode) - 255 * 0.004e-3
    assert least < parts < whole
    # a quarter of the work, between the smallest chunk (16 tokens) and the whole one
    smallest, largest = 5e-9 * 16 * 8, 5e-9 * 256 * 128
    assert whole - parts == pytest.approx(0.75 * (largest - smallest), rel=1e-9)


@DECODES
def test_the_smallest_chunk_bounds_smaller_ones(decode):
    dense = 0.01e-3
    tiny = prefill(TABLES, (4, 1024), **decode)
    assert tiny == pytest.approx(prefill(TABLES, (16, 1024), **decode) - 12 * dense)


@DECODES
def test_prefill_stays_quadratic_beyond_the_largest_chunk(decode):
    def attention(tokens):
        seconds = prefill(TABLES, (tokens, 0), **decode)
        return seconds * 1e3 - 0.05 * (tokens + decode.get("decode_sequences", 0))

    assert attention(8192) / attention(4096) == pytest.approx(4, rel=0.25)
    assert attention(32768) / attention(16384) == pytest.approx(4, rel=0.05)


def test_contexts_beyond_the_mixed_table_scale_its_edge():
    edge = prefill(TABLES, (256, 8192), decode_sequences=8, decode_context=8 * 8192)
    attention = 0.9 + 5e-6 * 256 * (8192 + 128) + 3e-4 * 8 * 8192
    beyond = prefill(TABLES, (256, 16384), decode_sequences=8, decode_context=8 * 16384)
    assert beyond - edge == pytest.approx(1e-3 * attention, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": 0.0}, "speed"),
        ({"decode": (0.5, 0.02, -1e-4)}, "negative"),
        ({"overhead_ms": -1.0}, "negative"),
        ({"linear": ((0.0, 0.0), (-1.0, 0.5))}, "take time"),
    ],
)
def test_impossible_closed_forms_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(FORM, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": -1.0}, "speed"),
        ({"decode": TABLES.dense}, "decode grid needs 2 axes"),
        ({"mixed": TABLES.prefill}, "mixed grid needs 4 axes"),
        ({"dense": grid([1, 1000], of=lambda n: 120 - 0.1 * n)}, "without duration"),
    ],
)
def test_impossible_tables_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TABLES, **change)


@pytest.mark.parametrize(
    ("axis", "values", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], "shape"),
        ([2.0, 1.0], [1.0, 2.0], "increasing"),
        ([1.0], [1.0], "at least two"),
        ([1.0, 2.0], [1.0, math.nan], "finite"),
    ],
)
def test_impossible_grids_are_refused(axis, values, message):
    with pytest.raises(ValueError, match=message):
        Grid((np.array(axis),), np.array(values))
