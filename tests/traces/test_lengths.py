"""Length distributions, and the measured ones against the traces they were measured on."""

from pathlib import Path

import numpy as np
import pytest

from makespan.traces import TraceWarning, lengths, read
from makespan.traces.lengths import Fixed, LogNormal, Quantiles

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "llm"


def sample(distribution, count=400_000):
    return distribution.sample(np.random.default_rng(0), count)


def test_fixed():
    assert sample(Fixed(7), 3).tolist() == [7, 7, 7]
    assert Fixed(7).mean == 7


def test_lognormal_has_its_mean_and_median():
    found = sample(LogNormal(mean=300, median=200))
    assert found.mean() == pytest.approx(300, rel=0.01)
    assert np.median(found) == pytest.approx(200, rel=0.01)


def test_lognormal_is_cut_off():
    found = sample(LogNormal(mean=300, median=20, longest=1000))
    assert found.max() == 1000
    assert found.min() == 1


def test_quantiles_are_met_and_the_mean_is_that_of_the_curve():
    curve = Quantiles((10, 100, 100, 1000), (0, 0.5, 0.7, 1))
    found = sample(curve)
    assert np.percentile(found, 50) == 100
    assert np.percentile(found, 85) == pytest.approx(10**2.5, rel=0.02)
    assert (found.min(), found.max()) == (10, 1000)
    assert found.mean() == pytest.approx(curve.mean, rel=0.005)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fixed(0), "tokens must be at least 1"),
        (lambda: LogNormal(10, 20), "needs mean >= median"),
        (lambda: Quantiles((1, 2), (0, 0.5, 1)), "one positive count per probability"),
        (lambda: Quantiles((0, 2), (0, 1)), "one positive count per probability"),
        (lambda: Quantiles((2, 1), (0, 1)), "must not decrease"),
        (lambda: Quantiles((1, 2), (0, 0.9)), "must increase from 0 to 1"),
        (lambda: Quantiles((1, 2, 3), (0, 1, 1)), "must increase from 0 to 1"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def difference(found, real):
    """Largest difference between two distribution functions (Kolmogorov-Smirnov)."""
    at = np.unique(real)
    sides = [np.searchsorted(np.sort(x), at, "right") / len(x) for x in (found, real)]
    return np.abs(sides[0] - sides[1]).max()


TRACES = {
    "AZURE_CONV": "AzureLLMInferenceTrace_conv.csv",
    "AZURE_CODE": "AzureLLMInferenceTrace_code.csv",
    "MOONCAKE": "mooncake_conversation_trace.jsonl.gz",
    "ARXIV": "vidur_arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv",
}


@pytest.mark.parametrize("trace", TRACES)
def test_measured_distributions_are_as_close_as_the_docstring_says(trace):
    path = DATA / TRACES[trace]
    if not path.exists():
        pytest.skip(f"{TRACES[trace]} is not here")
    real = read(path)
    check(getattr(lengths, f"{trace}_PROMPT"), real.prompt_tokens)
    check(getattr(lengths, f"{trace}_OUTPUT"), real.output_tokens)


def check(distribution, real):
    found = sample(distribution)
    assert found.mean() == pytest.approx(real.mean(), rel=0.04)
    at = (50, 95, 99)
    np.testing.assert_allclose(np.percentile(found, at), np.percentile(real, at), rtol=0.015)
    worst = 0.07 if distribution is lengths.AZURE_CONV_PROMPT else 0.04
    assert difference(found, real) <= worst + 0.0005


def test_measured_turns_of_sharegpt():
    path = DATA / "sharegpt_v3_lengths_derived.csv.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    import pyarrow.csv

    table = pyarrow.csv.read_csv(path)
    turn, user, answer = (
        table[name].to_numpy() for name in ("turn", "user_tokens", "assistant_tokens")
    )
    check(lengths.SHAREGPT_FIRST, user[(turn == 0) & (user > 0)])
    check(lengths.SHAREGPT_LATER, user[(turn > 0) & (user > 0)])
    check(lengths.SHAREGPT_ANSWER, answer[answer > 0])
    with pytest.warns(TraceWarning):
        assert read(path).output_tokens.mean() == pytest.approx(280, abs=1)
