"""The service level objective and its running count."""

import numpy as np
import pytest

from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import EngineConfig, FleetConfig, Outage, ReplicaConfig
from makespan.envs.llm.fleet import STATUS, Fleet
from makespan.envs.llm.slo import GoodputCounter, within_slo
from makespan.traces.synthetic import synthetic

EPSILON = 1e-6


@pytest.mark.parametrize(
    ("prompt", "output", "ttft_s", "e2e_s", "met"),
    [
        (1000, 101, 1.0625 - EPSILON, 6.0, True),
        (1000, 101, 1.0625 + EPSILON, 6.0, False),
        (8000, 101, 1.5 - EPSILON, 6.0, True),
        (8000, 101, 1.5 + EPSILON, 6.0, False),
        (1000, 101, 1.0, 6.0 - EPSILON, True),
        (1000, 101, 1.0, 6.0 + EPSILON, False),
        (1000, 1, 1.0, 1.0, True),
    ],
)
def test_the_limits(prompt: int, output: int, ttft_s: float, e2e_s: float, met: bool):
    columns = (np.array([value]) for value in (prompt, output, ttft_s, e2e_s))
    assert within_slo(*columns).tolist() == [met]


SMALL = ReplicaConfig(engine=EngineConfig(kv_blocks=400, max_num_queued_requests=3))
FLEETS = {
    "calm": FleetConfig(replicas=(ReplicaConfig(),) * 4),
    "swamped": FleetConfig(replicas=(ReplicaConfig(),)),
    "rejecting": FleetConfig(replicas=(SMALL,) * 2),
    "failing": FleetConfig(outages=(Outage(0, 2.0, 5.0), Outage(1, 3.0, 1.0)), on_failure="fail"),
    "rerouting": FleetConfig(outages=(Outage(0, 2.0, 5.0), Outage(1, 3.0, 1.0))),
}


# The fleet that rejects takes every branch of the counter, and as plain Python the least time.
CASES = [
    pytest.param(config, id=name, marks=() if name == "rejecting" else pytest.mark.slow_in_python)
    for name, config in FLEETS.items()
]


@pytest.mark.parametrize("config", CASES)
@pytest.mark.parametrize("every", [1, 7])
def test_the_count_is_that_of_the_finished_log(config: FleetConfig, every: int):
    fleet = Fleet(synthetic("azure_conv", requests=200, rate=12.0, seed=1), config)
    counter, counts = GoodputCounter(fleet), []

    def policy(decision) -> int:
        if len(counts) % every == 0:
            counter.count()
        counts.append(counter.count())
        return decision.lowest(decision.requests)

    log = simulate(fleet, policy).log
    tpot_s = (log["finish_s"] - log["first_token_s"]) / np.maximum(log["output_tokens"] - 1, 1)
    ttft_s = log["first_token_s"] - log["arrival_s"]
    finished = log["status"] == STATUS.index("finished")
    met = finished & (ttft_s <= 1 + 62.5e-6 * log["prompt_tokens"]) & (tpot_s <= 0.05)
    assert counter.count() == met.sum()
    assert counter.count() == met.sum()
    assert np.all(np.diff(counts) >= 0)
    assert len(set(counts)) > 5 or config is FLEETS["swamped"]


@pytest.mark.slow_in_python  # the counter has no part in it
def test_the_fleets_above_differ_in_what_happens():
    counts = {}
    for name, config in FLEETS.items():
        fleet = Fleet(synthetic("azure_conv", requests=200, rate=12.0, seed=1), config)
        log = simulate(fleet, lambda d: d.lowest(d.requests)).log
        counts[name] = dict(zip(STATUS, np.bincount(log["status"], minlength=4), strict=True))
        assert (log["attempts"].max() > 1) == (name == "rerouting")
    assert counts["rejecting"]["rejected"] > counts["calm"]["rejected"] + 10
    assert [name for name in counts if counts[name]["failed"]] == ["failing"]
    assert counts["calm"] == counts["swamped"] == counts["rerouting"]
