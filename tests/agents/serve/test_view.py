"""The router's accounting of real servers shows what the simulator's router would."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import inf, isnan, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.agents.llm.policy import router
from makespan.agents.serve.view import Incoming, LiveFleet, Replica, Sent
from makespan.agents.shipped import folder_of
from makespan.baselines.llm import policy as baseline
from makespan.envs.core.contract import Policy
from makespan.envs.llm.config import (
    EngineConfig,
    FleetConfig,
    GaugeConfig,
    Outage,
    PredictorConfig,
    ReplicaConfig,
)
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.fleet import Fleet
from makespan.envs.llm.replica import resolve
from makespan.envs.llm.state import FINISHED, REJECTED
from makespan.traces.synthetic import synthetic

RULES = ("lookahead_hold", "lmetric", "dynamo_kv", "smetric", "aibrix_least_latency", "llmd_epp")

COLUMNS = (
    "requests",
    "prefill_tokens",
    "decoding",
    "decode_tokens",
    "prefix_tokens",
    "block_size",
    "kv_blocks",
)
GAUGES = ("running", "waiting", "kv_usage", "age_s")
REQUEST = (
    "index",
    "prompt_tokens",
    "session",
    "priority",
    "slo_class",
    "predicted_tokens",
    "attempt",
)


def picture(decision: RoutingDecision) -> dict[str, Any]:
    """Everything that a decision shows, copied."""
    shown: dict[str, Any] = {
        name: getattr(decision, name)
        for name in ("time", "replicas", "can_hold", "held", "engines", "all_healthy")
    }
    shown |= {f"request.{name}": getattr(decision.request, name) for name in REQUEST}
    shown |= {name: getattr(decision, name).copy() for name in ("action_mask", *COLUMNS)}
    shown |= {name: getattr(decision.gauges, name).copy() for name in GAUGES}
    shown["prefix_hashes"] = decision.request.prefix_hashes.copy()
    for r in range(decision.replicas):
        shown[f"model {r}"] = decision.step_time[r].pack()
        for name, rows in (("row", decision.in_flight(r)), ("recent", decision.recent(r))):
            shown |= {f"{name} {r} {field}": rows[field].copy() for field in rows.dtype.names or ()}
    return shown


def assert_same_picture(live: dict[str, Any], told: dict[str, Any]) -> None:
    """Fail unless two pictures are equal to the last bit; nan equals nan."""
    assert live.keys() == told.keys()
    for name, value in told.items():
        if isinstance(value, np.ndarray):
            assert live[name].dtype == value.dtype, name
            assert live[name].flags.c_contiguous, name
        np.testing.assert_array_equal(live[name], value, err_msg=name)


class Proxy:
    """Does to a `LiveFleet` what a proxy would have done that stood before a simulated fleet.

    It reads what reaches a router: answers as they stream, their ends, scrapes, and outages.
    """

    def __init__(self, fleet: Fleet) -> None:
        config = fleet.config
        blocks = config.prefix_index_blocks
        self.fleet = fleet
        self.live = LiveFleet([Replica(r, blocks) for r in config.replicas], config.can_hold)
        self.open: dict[int, Sent] = {}
        self.outages = sorted(config.outages, key=lambda outage: outage.start_s)

    def decision(self, told: RoutingDecision) -> RoutingDecision:
        """The live decision that corresponds to the simulator's."""
        self._finish()
        self._break(told.time)
        for r in range(told.replicas):
            self._stream(told, r)
            self._scrape(told, r)
        self.live.held = told.held
        return self.live.decision(self._incoming(told), told.time, told.request.attempt)

    def decide(self, told: RoutingDecision, action: int) -> None:
        request, q = self._incoming(told), told.request.index
        self.fleet.decide(action)
        if action < told.replicas and self.fleet.records.status[q] != REJECTED:
            self.open[q] = self.live.send(action, request, told.time)

    def end(self) -> None:
        """All is done."""
        self._finish()
        self._break(inf)

    def _incoming(self, told: RoutingDecision) -> Incoming:
        q, workload = told.request.index, self.fleet.workload
        return Incoming(
            q,
            workload.arrival_s.item(q),
            told.request.prompt_tokens,
            workload.hashes[workload.hash_offsets[q] : workload.hash_offsets[q + 1]],
            told.request.session,
            told.request.priority,
            told.request.slo_class,
            told.request.predicted_tokens,
        )

    def _finish(self) -> None:
        records = self.fleet.records
        done = [q for q in self.open if records.status[q] == FINISHED]
        for q in sorted(done, key=lambda q: records.finish_s[q]):
            sent = self.open.pop(q)
            self._count(sent, int(records.generated[q]))
            self.live.finish(sent, records.finish_s.item(q))

    def _count(self, sent: Sent, tokens: int) -> None:
        """The first token with its time, which matters; the others at once."""
        first_s = self.fleet.records.first_token_s.item(sent.request.index)
        if tokens and not sent.streaming:
            self.live.count(sent, 1, first_s)
        self.live.count(sent, tokens - sent.streamed_tokens, first_s + 1e-3)

    def _break(self, now: float) -> None:
        while self.outages and self.outages[0].start_s <= now:
            replica = self.live.replicas[self.outages.pop(0).replica]
            for q, sent in list(self.open.items()):
                if sent.replica is replica:
                    self.live.fail(self.open.pop(q), now)
            replica.forget()
        for r, replica in enumerate(self.live.replicas):
            cold_s = self.fleet.config.cold_start_s
            replica.up = not any(
                outage.start_s <= now < outage.start_s + outage.duration_s + cold_s
                for outage in self.fleet.config.outages
                if outage.replica == r
            )

    def _stream(self, told: RoutingDecision, r: int) -> None:
        for row in told.in_flight(r):
            self._count(self.open[row["request"].item()], row["streamed_tokens"].item())

    def _scrape(self, told: RoutingDecision, r: int) -> None:
        values = [getattr(told.gauges, name).item(r) for name in GAUGES]
        if isnan(values[-1]):
            return  # not scraped since the start or an outage
        period_s, lag_s = self.fleet.config.gauges.period_s, self.fleet.config.gauges.lag_s
        scrape = round((told.time - values.pop() - lag_s) / period_s)
        self.live.replicas[r].scraped(scrape * period_s + lag_s, *values)


def policies() -> dict[str, Policy]:
    rules = {name: baseline(name, seed=1) for name in RULES}
    return rules | {"agent": router(folder_of("agent"))()}


REPLICAS = (
    ReplicaConfig("H100"),
    ReplicaConfig("A100", engine=EngineConfig(kv_blocks=400)),
    ReplicaConfig("L40S", engine=EngineConfig(enable_prefix_caching=False)),
    ReplicaConfig("A100", speed=0.7, engine=EngineConfig(block_size=32, max_num_seqs=12)),
)

OUTAGES = (Outage(1, 1.503, 0.8), Outage(0, 2.001, 0.5), Outage(1, 5.02, 0.4))

SCENARIOS: dict[str, dict[str, Any]] = {
    "lookahead_hold": {"can_hold": True, "hold_order": "shortest", "outages": OUTAGES},
    "agent": {"can_hold": True, "gauges": GaugeConfig(0.05, 0.02, 0.2, 0.1, 0.3)},
    "lmetric": {"outages": OUTAGES, "cold_start_s": 0.3},
    "dynamo_kv": {"prefix_index_blocks": 31_250, "predictor": PredictorConfig("none")},
    "smetric": {"outages": OUTAGES, "on_failure": "fail", "gauges": GaugeConfig(1.0)},
}
"""Who decides, and in which fleet."""


def make_fleet(seed: int, requests: int = 220, rate: float = 70.0, **config: Any) -> Fleet:
    queues = replace(REPLICAS[3].engine, max_num_queued_requests=6)
    replicas = (*REPLICAS[:3], replace(REPLICAS[3], engine=queues))
    settings = {"replicas": replicas, "prefix_index_blocks": 300} | config
    workload = synthetic("sharegpt_sessions", requests, rate, seed=seed)
    return Fleet(workload, FleetConfig(**settings), seed)


def compare(fleet: Fleet, driver: str) -> Counter[str]:
    """Let `driver` decide, and everything agree at each decision; what occurred, and how often."""
    proxy, told_policies, live_policies = Proxy(fleet), policies(), policies()
    seen: Counter[str] = Counter()
    while (told := fleet.next_decision()) is not None:
        live = proxy.decision(told)
        picture_told, picture_live = picture(told), picture(live)
        if told.can_hold and not told.all_healthy:  # the simulator waits for recoveries, too
            picture_told["action_mask"][-1] = told.requests[told.healthy].any()
        assert_same_picture(picture_live, picture_told)
        choices = {name: rule(told) for name, rule in told_policies.items()}
        assert {name: rule(live) for name, rule in live_policies.items()} == choices
        seen["held"] += choices[driver] == told.replicas
        seen["retried"] += told.request.attempt > 0
        seen["known"] += int(picture_live["age_s"][0] >= 0)
        seen["matched"] += int(picture_live["prefix_tokens"].any())
        seen["full"] += len(live.recent(0)) == 64
        proxy.decide(told, choices[driver])
    proxy.end()
    assert not proxy.open
    assert all(settled(replica) for replica in proxy.live.replicas)
    return seen


def settled(replica: Replica) -> bool:
    counts = replica.requests, replica.prefill_tokens, replica.decoding, replica.decode_tokens
    return counts == (0, 0, 0, 0) and len(replica.in_flight()) == 0


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("driver", SCENARIOS)
def test_decisions_and_choices_are_those_of_the_simulator(driver: str, seed: int) -> None:
    fleet = make_fleet(seed, **SCENARIOS[driver])
    seen = compare(fleet, driver)
    config, log = fleet.config, fleet.log
    assert fleet.counters["decisions"] >= 220
    assert seen["known"] > 100
    assert seen["matched"] > 20
    assert (seen["held"] > 0) == config.can_hold
    assert (seen["retried"] > 0) == (bool(config.outages) and config.on_failure == "reroute")
    assert (log["status"] == 0).sum() > 80


def test_the_scenarios_reach_what_is_rare() -> None:
    """Preemption, rejection, and more finished requests than are shown."""
    fleet = make_fleet(2, requests=400, rate=30.0)
    seen = compare(fleet, "lmetric")
    assert seen["full"] > 0
    assert fleet.log["preemptions"].sum() > 0
    assert (fleet.log["status"] == 1).sum() > 0


def test_a_workload_that_shares_nothing() -> None:
    workload = synthetic("azure_conv", 60, 30.0, seed=4)
    workload = replace(workload, hashes=np.zeros(0, np.int64), hash_offsets=np.zeros(0, np.int64))
    fleet = Fleet(workload, FleetConfig(replicas=REPLICAS))
    assert compare(fleet, "lmetric")["matched"] == 0


# By hand.


def replica(**engine: Any) -> Replica:
    return Replica(resolve(ReplicaConfig("A100", engine=EngineConfig(**engine))), 100)


def live_fleet(replicas: int = 2, can_hold: bool = False) -> LiveFleet:
    return LiveFleet([replica() for _ in range(replicas)], can_hold)


def incoming(index: int = 0, prompt_tokens: int = 100, *hashes: int) -> Incoming:
    return Incoming(index, 0.0, prompt_tokens, np.array(hashes, np.int64))


def test_the_life_of_a_request() -> None:
    fleet = live_fleet()
    request = replace(incoming(7, 100), predicted_tokens=30.0)
    sent = fleet.send(1, request, 10.0)
    later = fleet.send(1, incoming(8, 50), 10.5)
    assert (sent.queued_tokens, later.queued_tokens) == (0, 100)
    fleet.count(sent, 0, 10.6)  # a chunk without a token is no first token
    shown = fleet.decision(incoming(9), 11.0)
    assert shown.prefill_tokens.tolist() == [0, 150]
    assert shown.decoding.tolist() == shown.decode_tokens.tolist() == [0, 0]
    fleet.count(sent, 1, 12.0)
    fleet.count(sent, 4, 13.0)
    shown = fleet.decision(incoming(9), 13.0)
    assert shown.requests.tolist() == [0, 2]
    assert shown.prefill_tokens.tolist() == [0, 50]
    assert shown.decoding.tolist() == [0, 1]
    assert shown.decode_tokens.tolist() == [0, 105]
    assert shown.in_flight(1)[0].item() == (7, 10.0, 100, 100, 5, 30.0)
    assert shown.in_flight(1)[1].item()[:5] == (8, 10.5, 50, 50, 0)
    fleet.finish(sent, 14.0)
    fleet.fail(later, 14.0)
    shown = fleet.decision(incoming(9), 15.0)
    assert shown.recent(1).tolist() == [(100, 0, 100, 2.0, 5, 0.5)]
    assert len(shown.recent(0)) == len(shown.in_flight(1)) == 0


def test_an_answer_of_one_token_has_no_time_per_token() -> None:
    fleet = live_fleet()
    sent = fleet.send(0, incoming(), 1.0)
    fleet.count(sent, 1, 2.0)
    fleet.finish(sent, 3.0)
    row = fleet.replicas[0].recent()[0]
    assert row["ttft_s"] == 1.0
    assert isnan(row["tpot_s"])


def test_an_answer_without_tokens_is_not_shown_as_recent() -> None:
    fleet = live_fleet()
    fleet.finish(fleet.send(0, incoming(), 1.0), 2.0)
    assert settled(fleet.replicas[0])
    assert len(fleet.replicas[0].recent()) == 0


def test_what_is_settled_stays_as_it_is() -> None:
    fleet = live_fleet()
    sent = fleet.send(0, incoming(), 1.0)
    fleet.count(sent, 3, 2.0)
    fleet.finish(sent, 3.0)
    for late in (fleet.finish, fleet.fail):
        late(sent, 4.0)
    fleet.count(sent, 5, 4.0)
    assert settled(fleet.replicas[0])
    assert len(fleet.replicas[0].recent()) == 1
    failed = fleet.send(0, incoming(), 5.0)
    fleet.fail(failed, 6.0)
    fleet.finish(failed, 7.0)
    assert settled(fleet.replicas[0])
    assert len(fleet.replicas[0].recent()) == 1


def test_an_estimate_may_be_put_right_but_what_came_has_come() -> None:
    fleet = live_fleet()
    sent = fleet.send(0, incoming(0, 100), 1.0)
    with pytest.raises(ValueError, match="1 of 0 tokens cannot be taken back"):
        fleet.count(sent, -1, 2.0)
    fleet.count(sent, 5, 2.0)
    fleet.count(sent, -4, 3.0)
    assert fleet.decision(incoming(1), 3.0).decode_tokens.tolist() == [101, 0]
    with pytest.raises(ValueError, match="1 of 1 tokens cannot be taken back"):
        fleet.count(sent, -1, 4.0)
    fleet.finish(sent, 4.0)
    assert settled(fleet.replicas[0])
    assert fleet.replicas[0].recent()["output_tokens"].tolist() == [1]


def test_a_prompt_that_is_all_there_still_computes_a_token() -> None:
    fleet = live_fleet()
    request = incoming(0, 32, 1, 2, 3)  # the third hash is of the answer
    assert fleet.send(0, request, 1.0).uncached_tokens == 32
    shown = fleet.decision(request, 2.0)
    assert shown.request.prefix_hashes.tolist() == [1, 2]
    assert shown.prefix_tokens.tolist() == [32, 0]
    assert fleet.send(0, request, 2.0).uncached_tokens == 1


def test_without_prefix_caching_nothing_is_expected_to_be_there() -> None:
    fleet = LiveFleet([replica(enable_prefix_caching=False), replica()], False)
    request = incoming(0, 32, 1, 2)
    for _ in range(2):
        assert fleet.send(0, request, 1.0).uncached_tokens == 32
    assert fleet.decision(request, 2.0).prefix_tokens.tolist() == [0, 0]


def test_the_prefix_is_looked_up_once_per_decision() -> None:
    fleet = live_fleet()
    request = incoming(0, 32, 1, 2)
    shown = fleet.decision(request, 1.0)
    assert shown.prefix_tokens is shown.prefix_tokens
    fleet.send(1, request, 1.0)
    assert fleet.decision(request, 1.0).prefix_tokens.tolist() == [0, 32]


def test_gauges_are_unknown_at_first_then_age_and_are_forgotten() -> None:
    fleet = live_fleet()
    gauges = fleet.decision(incoming(), 1.0).gauges
    for name in GAUGES:
        assert np.isnan(getattr(gauges, name)).all()
        assert getattr(gauges, name).dtype == np.float64
    fleet.replicas[1].scraped(2.0, 3, 4, 0.5)
    gauges = fleet.decision(incoming(), 2.25).gauges
    assert [getattr(gauges, name)[1] for name in GAUGES] == [3, 4, 0.5, 0.25]
    assert isnan(gauges.age_s[0])
    fleet.replicas[1].forget_gauges()
    assert np.isnan(fleet.decision(incoming(), 3.0).gauges.age_s).all()


def test_a_restarted_server_has_an_empty_cache() -> None:
    fleet = live_fleet()
    request = incoming(0, 32, 1, 2)
    sent = fleet.send(0, request, 1.0)
    fleet.replicas[0].scraped(1.0, 1, 0, 0.1)
    fleet.replicas[0].forget()
    shown = fleet.decision(request, 2.0)
    assert shown.prefix_tokens.tolist() == [0, 0]
    assert isnan(shown.gauges.running[0])
    assert shown.requests.tolist() == [1, 0]  # until its connection breaks
    fleet.fail(sent, 2.0)
    assert settled(fleet.replicas[0])


def test_the_engine_knows_its_blocks_best() -> None:
    fleet = LiveFleet([replica(kv_blocks=500), replica(kv_blocks=600)], False)
    assert fleet.decision(incoming(), 1.0).kv_blocks.tolist() == [500, 600]
    fleet.replicas[1].engine_said(32, 700)
    shown = fleet.decision(incoming(), 1.0)
    assert shown.kv_blocks.tolist() == [500, 700]
    assert shown.block_size.tolist() == [16, 32]
    with pytest.raises(ValueError, match="no engine has 1 KV blocks"):
        fleet.replicas[0].engine_said(16, 1)


def test_a_configuration_must_be_resolved() -> None:
    with pytest.raises(ValueError, match="no engine has 0 KV blocks of 0 tokens"):
        Replica(ReplicaConfig("A100"))


def test_who_is_down_or_excluded_is_masked() -> None:
    fleet = live_fleet(3)
    fleet.replicas[0].up = False
    assert fleet.decision(incoming(), 1.0).action_mask.tolist() == [False, True, True]
    shown = fleet.decision(incoming(), 1.0, 1, {2})
    assert shown.action_mask.tolist() == [False, True, False]
    assert (shown.request.attempt, shown.can_hold, shown.all_healthy) == (1, False, False)
    with pytest.raises(ValueError, match="no replica may be chosen"):
        fleet.decision(incoming(), 1.0, 2, (1, 2))


def test_holding_waits_for_a_finish() -> None:
    fleet = live_fleet(2, can_hold=True)
    assert fleet.decision(incoming(), 1.0).action_mask.tolist() == [True, True, False]
    sent = fleet.send(0, incoming(), 1.0)
    assert fleet.decision(incoming(), 1.0).action_mask.tolist() == [True, True, True]
    # One that must not go anywhere else waits, too.
    assert fleet.decision(incoming(), 1.0, 1, [0, 1]).action_mask.tolist() == [False, False, True]
    fleet.replicas[0].up = False  # what is down may never finish
    assert fleet.decision(incoming(), 1.0).action_mask.tolist() == [False, True, False]
    fleet.replicas[0].up = True
    fleet.finish(sent, 2.0)
    assert fleet.decision(incoming(), 2.0).action_mask.tolist() == [True, True, False]


def test_policies_may_cache_by_the_identity_of_the_lists() -> None:
    fleet = live_fleet(2)
    first = fleet.decision(incoming(), 1.0)
    models, engines = first.step_time, first.engines
    fleet.send(0, incoming(), 1.0)
    again = fleet.decision(incoming(), 2.0)
    assert again.step_time is models
    assert again.engines is engines
    fleet.replicas.append(replica(kv_blocks=77))
    more = fleet.decision(incoming(), 3.0)
    assert more.step_time is not models
    assert more.engines is not engines
    assert len(more.step_time) == len(more.engines) == more.replicas == 3
    assert more.kv_blocks[2] == 77


def test_a_replica_takes_its_requests_along_when_others_leave() -> None:
    fleet = live_fleet(3)
    request = incoming(5, 32, 1, 2)
    sent = fleet.send(2, request, 1.0)
    fleet.replicas.pop(0)
    shown = fleet.decision(request, 2.0)
    assert shown.requests.tolist() == [0, 1]
    assert shown.prefix_tokens.tolist() == [0, 32]
    assert shown.in_flight(1)["request"].tolist() == [5]
    gone = fleet.replicas.pop(1)
    fleet.count(sent, 2, 3.0)
    fleet.finish(sent, 4.0)
    assert settled(gone)
    assert len(gone.recent()) == 1


def test_recent_answers_are_the_last_ones_oldest_first() -> None:
    fleet = live_fleet(1)
    for tokens in range(1, 150):
        sent = fleet.send(0, incoming(), 1.0)
        fleet.count(sent, tokens, 2.0)
        fleet.finish(sent, 3.0)
        expected = list(range(max(1, tokens - 63), tokens + 1))
        assert fleet.replicas[0].recent()["output_tokens"].tolist() == expected


# Sequences of events.


@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "count", "finish", "fail"]), st.integers(0, 9)),
        max_size=60,
    )
)
def test_counters_are_those_of_what_is_open_and_return_to_zero(
    events: list[tuple[str, int]],
) -> None:
    fleet = live_fleet()
    handles: list[Sent] = []
    for now, (event, number) in enumerate(events):
        if event == "send":
            request = incoming(now, 10 + number, number)
            handles.append(fleet.send(number % 2, request, float(now)))
        elif handles:
            sent = handles[number % len(handles)]
            if event == "count":
                fleet.count(sent, number, float(now))
            else:
                getattr(fleet, event)(sent, float(now))
        for replica in fleet.replicas:
            check(replica, handles)
    for sent in handles:
        fleet.fail(sent, 100.0)
    assert all(settled(replica) for replica in fleet.replicas)


def check(replica: Replica, handles: list[Sent]) -> None:
    """Fail unless the counters are what the open handles add up to, which is never negative."""
    held = [sent for sent in handles if sent.replica is replica and not sent.settled]
    streaming = [sent for sent in held if sent.streamed_tokens]
    assert replica.requests == len(held)
    assert replica.decoding == len(streaming)
    assert replica.prefill_tokens == sum(
        sent.uncached_tokens for sent in held if not sent.streamed_tokens
    )
    assert replica.decode_tokens == sum(
        sent.request.prompt_tokens + sent.streamed_tokens for sent in streaming
    )
    rows = replica.in_flight()
    assert rows["request"].tolist() == [sent.request.index for sent in held]
    assert rows["streamed_tokens"].tolist() == [sent.streamed_tokens for sent in held]


class Recorder:
    """A `LiveFleet` that keeps the calls made on it; handles are known by their number."""

    def __init__(self, fleet: LiveFleet) -> None:
        self.fleet = fleet
        self.calls: list[tuple[str, tuple]] = []
        self.sent: list[Sent] = []

    def __call__(self, name: str, *arguments: Any) -> Any:
        self.calls.append((name, arguments))
        return self.play(name, *arguments)

    def play(self, name: str, *arguments: Any) -> Any:
        fleet = self.fleet
        if name == "send":
            self.sent.append(fleet.send(*arguments))
            return len(self.sent) - 1
        if name in ("count", "finish", "fail"):
            return getattr(fleet, name)(self.sent[arguments[0]], *arguments[1:])
        if name == "decision":
            return picture(fleet.decision(*arguments))
        r, *rest = arguments  # of a replica
        return getattr(fleet.replicas[r], name)(*rest)


def live_run(seed: int, record: Callable[..., Any], count: int) -> list[dict[str, Any]]:
    """What a proxy might do in a minute of `time.monotonic()`; the decisions it saw."""
    rng = np.random.default_rng(seed)
    now, opened, pictures = 86_417.203_518_9, [], []
    for i in range(count):
        now += rng.exponential(0.05)
        hashes = rng.integers(5) * 1000 + np.arange(rng.integers(12))
        request = Incoming(i, now, int(rng.integers(1, 300)), hashes, predicted_tokens=nan)
        pictures.append(record("decision", request, now, int(rng.integers(2))))
        opened.append(record("send", int(pictures[-1]["requests"].argmin()), request, now))
        for sent in rng.choice(opened, min(len(opened), 5), replace=False).tolist():
            record("count", sent, int(rng.integers(4)), now + rng.exponential(1e-3))
        if len(opened) > 8:
            sent = opened.pop(int(rng.integers(len(opened))))
            record("fail" if rng.random() < 0.2 else "finish", sent, now)
        if rng.random() < 0.2:
            record("scraped", int(rng.integers(3)), now, *rng.random(3).tolist())
        if rng.random() < 0.02:
            record("forget", int(rng.integers(3)))
    return pictures


def test_a_recorded_run_can_be_replayed() -> None:
    recorder = Recorder(live_fleet(3, can_hold=True))
    pictures = live_run(0, recorder, 150)
    names = [name for name, _ in recorder.calls]
    assert {"decision", "send", "count", "finish", "fail", "scraped", "forget"} == set(names)
    again = Recorder(live_fleet(3, can_hold=True))
    answers = [(name, again.play(name, *arguments)) for name, arguments in recorder.calls]
    replayed = [answer for name, answer in answers if name == "decision"]
    assert len(replayed) == 150
    for live, told in zip(replayed, pictures, strict=True):
        assert_same_picture(live, told)
    assert any(told["prefix_tokens"].any() for told in pictures)
