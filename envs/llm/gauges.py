"""Polled gauges: what `/metrics` said when it was last scraped, with all that goes wrong there.

A scrape may be missed (the old values stay, and age), lag behind the engine, or hit a stuck gauge,
which goes on answering old values as if they were fresh (vLLM issue 29928).
"""

from collections import deque

import numpy as np

from makespan.envs.llm.config import GaugeConfig
from makespan.envs.llm.decision import Gauges

MOST_SAMPLES = 4096
"""Length at which the timeline is thinned to half."""


class GaugeBoard:
    """What the router knows from scrapes, and a timeline of the true values for the report.

    Args:
        replicas: number of replicas, N.
        config: how the gauges are polled.
        rng: source of missed and stuck scrapes.
    """

    def __init__(self, replicas: int, config: GaugeConfig, rng: np.random.Generator) -> None:
        self._config = config
        self._rng = rng
        self._faulty = bool(config.miss_probability or config.stuck_probability)
        self._shown = np.full((replicas, 3), np.nan)
        self._scraped_s = np.full(replicas, np.nan)
        self._stuck_until_s = np.full(replicas, -np.inf)
        self._on_the_way: deque[tuple[float, np.ndarray]] = deque()
        self._samples: list[tuple[float, np.ndarray]] = []
        self._every = 1
        self._polls = 0

    def sample(self, now: float, values: np.ndarray) -> None:
        """Take `values`, float64 (N, 3): running, waiting, KV usage; shown after the lag.

        The row of a replica that is down is nan.
        """
        self._on_the_way.append((now + self._config.lag_s, values))
        if self._polls % self._every == 0:
            self._samples.append((now, values))
            if len(self._samples) > MOST_SAMPLES:
                self._samples = self._samples[::2]
                self._every *= 2
        self._polls += 1

    def read(self, now: float) -> Gauges:
        """The gauges as the router has them at `now`."""
        while self._on_the_way and self._on_the_way[0][0] <= now:
            scrape = self._on_the_way.popleft()
            superseded = self._on_the_way and self._on_the_way[0][0] <= now
            if self._faulty or not superseded:
                self._scrape(*scrape)
        running, waiting, kv_usage = self._shown.T
        return Gauges(running, waiting, kv_usage, now - self._scraped_s)

    def forget(self, replica: int) -> None:
        """The replica is gone: its last values mean nothing."""
        self._shown[replica] = np.nan
        self._scraped_s[replica] = np.nan

    def timeline(self) -> dict[str, np.ndarray]:
        """Columns `time` (T,), `running`, `waiting` and `kv_usage` (T, N): the true values."""
        times = np.array([time for time, _ in self._samples])
        values = np.array([v for _, v in self._samples]).reshape(len(times), len(self._shown), 3)
        running, waiting, kv_usage = np.moveaxis(values, 2, 0)
        return {"time": times, "running": running, "waiting": waiting, "kv_usage": kv_usage}

    def _scrape(self, now: float, values: np.ndarray) -> None:
        if not self._faulty:
            self._shown[:] = values
            self._scraped_s[:] = np.where(np.isnan(values[:, 0]), np.nan, now)
            return
        config = self._config
        answered = ~np.isnan(values[:, 0])
        if config.miss_probability:
            answered &= self._rng.random(len(values)) >= config.miss_probability
        if config.stuck_probability:
            sticks = self._rng.random(len(values)) < config.stuck_probability
            free = now >= self._stuck_until_s
            self._stuck_until_s[sticks & free] = now + config.stuck_s
        moving = answered & (now >= self._stuck_until_s)
        self._shown[moving] = values[moving]
        self._scraped_s[answered] = now
