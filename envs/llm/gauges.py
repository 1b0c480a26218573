"""Polled gauges: what `/metrics` said when it was last scraped, with all that goes wrong there.

A scrape may be missed (the old values stay, and age), lag behind the engine, or hit a stuck gauge,
which goes on answering old values as if they were fresh (vLLM issue 29928). The values of scrape k
are those at k periods, and reach the router a lag later. They are taken when time next moves past
that (`makespan.envs.llm.catch_up`).
"""

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.llm.engine import blocks_needed, step_at
from makespan.envs.llm.state import MOST_SAMPLES, NOISE_MODULUS, State


@kernel
def happens(s, r, probability):
    """True with `probability`: the generator of Park and Miller (CACM 36(7), 1993, page 105).

    A whole number that stays below 2**47 on the way is the same in compiled and in plain code.
    """
    if probability == 0.0:
        return False
    replica = s.replicas[r]
    replica.noise = replica.noise * 48271 % NOISE_MODULUS
    return replica.noise < probability * NOISE_MODULUS


@kernel
def measure_gauges(s, r, now, gauge):
    """Write the true gauges of replica `r` at `now` to `gauge`; nan if it is down."""
    replica = s.replicas[r]
    gauge.scraped_s = now
    if not s.up[r]:
        gauge.running = np.nan
        gauge.waiting = np.nan
        gauge.kv_usage = np.nan
        return
    free = replica.free_blocks
    if replica.busy and replica.jump_steps > 1:
        free -= blocks_needed(s, r, step_at(s, r, now))
    gauge.running = replica.running
    gauge.waiting = replica.waiting
    gauge.kv_usage = 1.0 - free / (replica.kv_blocks - 1)


@kernel
def poll(s, r, now):
    """Ask replica `r`; the board keeps the old values where nothing new is answered."""
    fleet, replica = s.fleet[0], s.replicas[r]
    if not s.up[r]:
        return
    if happens(s, r, fleet.stuck_probability) and now >= replica.stuck_until_s:
        replica.stuck_until_s = now + fleet.stuck_s
    if happens(s, r, fleet.miss_probability):
        return
    if now >= replica.stuck_until_s:
        measure_gauges(s, r, now, s.board[r])
    s.board[r].scraped_s = now


@kernel
def thin_timeline(s):
    """Drop every second sample, and from now on take half as many."""
    fleet = s.fleet[0]
    n = s.replicas.size
    fleet.samples = (fleet.samples + 1) // 2
    fleet.every *= 2
    for i in range(fleet.samples):
        for r in range(n):
            s.samples[i * n + r] = s.samples[2 * i * n + r]


@kernel
def sample_timeline(s, now):
    """Keep the true gauges for the report."""
    fleet = s.fleet[0]
    if fleet.scrapes % fleet.every != 0:
        return
    if fleet.samples == MOST_SAMPLES:
        thin_timeline(s)
    for r in range(s.replicas.size):
        measure_gauges(s, r, now, s.samples[fleet.samples * s.replicas.size + r])
    fleet.samples += 1


@kernel
def scrape(s, now):
    """Take the scrape that is due at `now`."""
    fleet = s.fleet[0]
    sample_timeline(s, now)
    start = fleet.scrapes % fleet.depth * s.replicas.size
    for r in range(s.replicas.size):
        poll(s, r, now)
        s.scrapes[start + r] = s.board[r]
    fleet.scrapes += 1


@kernel
def read_gauges(s, now):
    """Fill `s.gauges`, rows of running, waiting, KV usage and age, with what the router knows."""
    fleet = s.fleet[0]
    n = s.replicas.size
    k = fleet.scrapes - 1
    while k >= 0 and k * fleet.period_s + fleet.lag_s > now:
        k -= 1
    for r in range(n):
        # Before the first scrape the last place of the ring is still unknown.
        gauge = s.scrapes[k % fleet.depth * n + r]
        s.gauges[r] = gauge.running
        s.gauges[n + r] = gauge.waiting
        s.gauges[2 * n + r] = gauge.kv_usage
        s.gauges[3 * n + r] = now - (gauge.scraped_s + fleet.lag_s)  # nobody sees the lag


@kernel
def forget_gauges(s, r):
    """Replica `r` is gone: its last values mean nothing."""
    for at in range(r, s.scrapes.size, s.replicas.size):
        s.scrapes[at].running = np.nan
        s.scrapes[at].waiting = np.nan
        s.scrapes[at].kv_usage = np.nan
        s.scrapes[at].scraped_s = np.nan
    s.board[r] = s.scrapes[r]


def timeline(state: State) -> dict[str, np.ndarray]:
    """The true gauges over time, thinned: `time` (T,), the others (T, N)."""
    n = len(state.replicas)
    samples = state.samples[: int(state.fleet.samples[0]) * n].reshape(-1, n)
    gauges = ("running", "waiting", "kv_usage")
    return {"time": samples.scraped_s[:, 0].copy()} | {name: samples[name] for name in gauges}
