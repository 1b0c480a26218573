"""A run of the router over real connections, replayed through the simulator's view of a fleet.

What the router did is recorded where it tells its accounting; then a fresh `LiveFleet`, which
`test_view.py` holds against simulated fleets field by field, is told the same, and a fresh policy
must decide the same.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fault_backends import (
    COMPLETIONS,
    END,
    EVENTS_HEAD,
    Call,
    Server,
    alone,
    chunk,
    events_of,
    eventually,
    saying,
    whole,
)
from running_router import quick, routing

from makespan.agents.llm.named import named
from makespan.agents.serve import dispatcher
from makespan.agents.serve.view import LiveFleet, Replica
from makespan.envs.llm.decision import RoutingDecision

GAUGES = (
    b"vllm:num_requests_running 2\nvllm:num_requests_waiting 1\nvllm:kv_cache_usage_perc 0.25\n"
    b'vllm:cache_config_info{block_size="16",num_gpu_blocks="500"} 1\n'
)

COLUMNS = ("time", "action_mask", "held", "requests", "prefill_tokens", "decoding")
COLUMNS += ("decode_tokens", "prefix_tokens", "block_size", "kv_blocks")

TALK = "a long talk that its later turns begin with and that others do not share " * 6


async def slowly(call: Call) -> None:
    """Stream a few tokens with something else in between."""
    await call.send(EVENTS_HEAD)
    for event in events_of(call.path):
        await asyncio.sleep(0.002)
        await call.send(chunk(event))
    await call.send(END)
    call.keep = True


def picture(decision: RoutingDecision) -> dict[str, Any]:
    """Copies of all that a decision shows."""
    gauges, request = decision.gauges, decision.request
    fields: dict[str, Any] = {name: np.array(getattr(decision, name)) for name in COLUMNS}
    fields |= {name: np.array(getattr(gauges, name)) for name in ("running", "waiting", "age_s")}
    fields |= {"kv_usage": gauges.kv_usage.copy(), "predicted": request.predicted_tokens}
    fields |= {"prompt": request.prompt_tokens, "attempt": request.attempt}
    for r in range(decision.replicas):
        fields[f"in flight {r}"] = decision.in_flight(r).copy()
        fields[f"recent {r}"] = decision.recent(r).copy()
    return fields


class Recorder(LiveFleet):
    """Notes all that it is told, with what its replicas are told beside."""

    runs: list["Recorder"]

    def __init__(self, replicas: list[Replica], can_hold: bool) -> None:
        super().__init__(replicas, can_hold)
        self.told: list[tuple[Any, ...]] = []
        self.pictures: list[dict[str, Any]] = []
        self.numbers: dict[Any, int] = {}
        type(self).runs.append(self)

    def decision(self, request, now, attempt=0, excluded=()):
        beside = [
            (r.up, r.block_size, r.kv_blocks, (r.scraped_s, r.running, r.waiting, r.kv_usage))
            for r in self.replicas
        ]
        self.told.append(("decision", request, now, attempt, set(excluded), self.held, beside))
        made = super().decision(request, now, attempt, excluded)
        self.pictures.append(picture(made))
        return made

    def send(self, r, request, now):
        self.told.append(("send", r, request, now))
        sent = super().send(r, request, now)
        self.numbers[sent] = len(self.numbers)
        return sent

    def count(self, sent, tokens, now):
        self.told.append(("count", self.numbers[sent], tokens, now))
        super().count(sent, tokens, now)

    def finish(self, sent, now):
        self.told.append(("finish", self.numbers[sent], now))
        super().finish(sent, now)

    def fail(self, sent, now):
        self.told.append(("fail", self.numbers[sent], now))
        super().fail(sent, now)


def replay(told: list[tuple[Any, ...]], configs: list[Any], decide: Callable[..., Any]) -> None:
    """Tell a fresh fleet the same; `decide` is given each decision."""
    fleet = LiveFleet([Replica(config, 64) for config in configs], can_hold=True)
    sent = []
    for what, *arguments in told:
        if what == "decision":
            request, now, attempt, excluded, fleet.held, beside = arguments
            for replica, (up, size, blocks, scraped) in zip(fleet.replicas, beside, strict=True):
                replica.up = up
                replica.engine_said(size, blocks)
                replica.scraped(*scraped)
            decide(fleet.decision(request, now, attempt, excluded))
        elif what == "send":
            sent.append(fleet.send(*arguments))
        else:
            number, *rest = arguments
            getattr(fleet, what)(sent[number], *rest)


def question(turn: int) -> bytes:
    """Turns of four talks."""
    prompt = f"{turn % 4} {TALK * (1 + turn // 8)}"
    return json.dumps({"model": "m", "prompt": prompt, "stream": True, "max_tokens": 9}).encode()


@pytest.mark.parametrize("name", ["lmetric", "lookahead_hold", "llmd_epp", "smetric", "agent"])
def test_the_same_decisions_come_out_of_a_recorded_live_run(name, monkeypatch):
    monkeypatch.setattr(dispatcher, "LiveFleet", Recorder)
    monkeypatch.setattr(Recorder, "runs", [], raising=False)
    choices: list[int] = []

    def noting() -> Callable[[RoutingDecision], int]:
        policy = named(name)(0)

        def decide(decision: RoutingDecision) -> int:
            choices.append(policy(decision))
            return choices[-1]

        return decide

    @alone
    async def run() -> None:
        metrics = saying(whole(GAUGES), keep=True)
        settings = quick(hold=True, gauges={"period_s": 0.02})
        pages = [Server(slowly, metrics=metrics) for _ in range(3)]
        async with (
            pages[0],
            pages[1],
            pages[2],
            routing(*pages, policy=noting, settings=settings) as live,
        ):
            engines = [live.backend(page.url).replica for page in pages]
            await eventually(lambda: all(engine.kv_blocks == 500 for engine in engines))
            choices.clear()
            live.dispatcher.use(live.dispatcher.backends)
            asked = []
            for turn in range(40):
                asked.append(live.ask(COMPLETIONS, body=question(turn)))
                await asyncio.sleep(0.001)
            for one in asked:
                assert (await one.done()).status == 200

    run()
    recorded = max(Recorder.runs, key=lambda fleet: len(fleet.told))
    assert len(recorded.pictures) == len(choices) >= 40
    assert any(p["prefix_tokens"].any() for p in recorded.pictures)
    assert any(np.isfinite(p["running"]).all() for p in recorded.pictures)
    again: list[int] = []
    fresh = named(name)(0)

    def decide(decision: RoutingDecision) -> None:
        told = picture(decision)
        for field, value in recorded.pictures[len(again)].items():
            assert np.asarray(told[field]).tobytes() == np.asarray(value).tobytes(), field
        again.append(fresh(decision))

    replay(recorded.told, [replica.config for replica in recorded.replicas], decide)
    assert again == choices
