"""The live comparison against the real vLLM, cut short: what it does, not how long it takes."""

import asyncio
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import replace

import pytest

from makespan.experiments.calibrate import calibrate
from makespan.experiments.fidelity.scheduler.real_vllm import environment
from makespan.experiments.live import fidelity
from makespan.experiments.live.batch_limits import BatchLimits, LimitSearch
from makespan.experiments.live.client import Client
from makespan.experiments.live.probe import Probe
from makespan.experiments.live.tiny_server import serving

CALIBRATION_S = 45.0


@pytest.mark.real_server
def test_a_real_vllm_is_measured_and_predicted(monkeypatch):
    vllm = environment()
    if vllm is None:
        pytest.skip("the real vLLM is not installed (make vllm)")

    async def measure(url):
        async with Client(url) as client:
            found = await calibrate(client, CALIBRATION_S, 0, lambda what, count: None)
            trial = fidelity.TRIALS[1]
            trial = replace(trial, shape=replace(trial.shape, requests=40))
            before = await client.metrics()
            rows = await fidelity.compare(client, found, [trial])
            after = await client.metrics()
            fleet = fidelity.fleet_of(found.hardware)
            log = fidelity.predict(fidelity.workload_of(trial, fleet), fleet, found.outside_s)
            engine = found.hardware.engine
            hits = "vllm:prefix_cache_hits_total"
            limits = [await LimitSearch(Probe(client, found.limits)).find() for _ in range(2)]
            limits.append(BatchLimits(engine.max_num_seqs, engine.max_num_batched_tokens))
            return found, rows, after[hits] - before[hits], log, limits

    with serving(vllm) as url:
        found, rows, hits, log, limits = asyncio.run(measure(url))
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)

    engine = found.hardware.engine
    assert (engine.kv_blocks, engine.block_size, engine.max_model_len) == (193, 32, 2048)
    assert BatchLimits(16, 2048) in limits  # a busy machine can spoil the search now and then
    assert found.limits.prefix_caching
    assert min(Counter(m.kind for m in found.measured).values()) >= 6
    assert any(m.prefill_work > m.prefill_tokens**2 / 2 for m in found.measured)
    assert [row.what.partition(": ")[2] for row in rows][2:4] == [
        "end-to-end latency, mean",
        "end-to-end latency, p99",
    ]
    # The same blocks are shared, whatever the clock of a busy machine says.
    assert hits == 2 * log["cached_tokens"].sum() > 0
    mean = rows[2]
    assert mean.reference / 3 < mean.ours < mean.reference * 3
