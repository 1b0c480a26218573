"""What an engine says of itself in its `/metrics`, and whether to believe it."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


class Source(NamedTuple):
    """Where a figure stands: in a metric's value, or in its label of that name."""

    metric: str
    label: str = ""


RUNNING = (Source("vllm:num_requests_running"), Source("sglang:num_running_reqs"))
WAITING = (Source("vllm:num_requests_waiting"), Source("sglang:num_queue_reqs"))
KV_USAGE = (
    Source("vllm:kv_cache_usage_perc"),
    Source("vllm:gpu_cache_usage_perc"),
    Source("sglang:token_usage"),
)
BLOCK_SIZE = (
    Source("vllm:cache_config_info", "block_size"),
    Source("sglang:page_size"),
    Source("sglang:cache_config_info", "page_size"),
)
KV_BLOCKS = (
    Source("vllm:cache_config_info", "num_gpu_blocks"),
    Source("sglang:num_pages"),
    Source("sglang:cache_config_info", "num_pages"),
)
COMPUTED_TOKENS = (
    Source("vllm:prompt_tokens_total"),
    Source("vllm:generation_tokens_total"),
    Source("sglang:realtime_tokens_total"),
)
"""Of each figure, the source that is preferred first; `COMPUTED_TOKENS` are added up."""

METRICS = {
    source.metric
    for sources in (RUNNING, WAITING, KV_USAGE, BLOCK_SIZE, KV_BLOCKS, COMPUTED_TOKENS)
    for source in sources
}
WANTED = re.compile(rf"\n((?:{'|'.join(sorted(METRICS))})[{{ \t][^\n]*)")

MOST_LINES = 4096
"""Of a text that are wanted; 64 data-parallel engines of vLLM have 384."""

LONGEST_LINE = 16_384
"""Characters; the longest of vLLM's, `cache_config_info`, has some 1,500."""

MOST_BLOCKS = 2**53
"""Up to which floats are whole numbers."""

BUSY_KV_USAGE = 0.5
"""An engine whose cache is fuller works for somebody: what is only kept does not count as used."""


class ScrapeError(ValueError):
    """A text has no gauges that a router could use; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class EngineReport:
    """The gauges of one server; several engines in it (data parallelism) are taken together.

    Attributes:
        running: requests in the running batches, summed; nan if absent.
        waiting: requests in the queues, summed; nan if absent.
        kv_usage: fraction of the KV blocks in use, 0 to 1, mean of the engines; nan if absent.
        block_size: tokens per KV block; 0 if absent.
        kv_blocks: KV blocks, summed; 0 if absent.
        computed_tokens: counter of tokens that went through the engines, which tells whether they
            work; nan if absent.
        sources: metrics that `running`, `waiting`, `kv_usage`, `block_size` and `kv_blocks` are
            from, in this order; empty strings for what is absent.
    """

    running: float
    waiting: float
    kv_usage: float
    block_size: int
    kv_blocks: int
    computed_tokens: float
    sources: tuple[str, ...]


def parse(text: str) -> EngineReport:
    """The gauges in Prometheus or OpenMetrics text of vLLM or SGLang.

    Names and labels: vLLM 0.32 (`v1/metrics/loggers.py`), with the older name of the usage; SGLang
    (`srt/observability/metrics_collector.py`), where the gauges `page_size` and `num_pages` took
    the place of `cache_config_info`. The parser of prometheus_client sees only the lines that begin
    with these names: it would take forty times as long for all of vLLM's text, most of which is
    histograms.

    A value that cannot be true (nan, infinite, negative, a usage above 1) makes its figure absent.

    Raises:
        ScrapeError: none of running, waiting and usage is there, or a line of theirs is malformed.
    """
    samples = _samples(text)
    running = _figure(RUNNING, samples, sum)
    waiting = _figure(WAITING, samples, sum)
    kv_usage = _figure(KV_USAGE, samples, _mean_share)
    if not any(figure.metric for figure in (running, waiting, kv_usage)):
        raise ScrapeError(f"no gauge of vLLM or SGLang in a text that begins with {text[:60]!r}")
    block_size = _figure(BLOCK_SIZE, samples, max)
    kv_blocks = _figure(KV_BLOCKS, samples, sum)
    figures = (running, waiting, kv_usage, block_size, kv_blocks)
    return EngineReport(
        running=running.value,
        waiting=waiting.value,
        kv_usage=kv_usage.value,
        block_size=_whole(block_size.value),
        kv_blocks=_whole(kv_blocks.value),
        computed_tokens=_computed_tokens(samples),
        sources=tuple(figure.metric for figure in figures),
    )


class _Figure(NamedTuple):
    value: float
    metric: str


def _samples(text: str) -> dict[str, list[Sample]]:
    """Metric -> its samples, of the metrics that are wanted."""
    lines = WANTED.findall("\n" + text)
    if len(lines) > MOST_LINES:
        raise ScrapeError(f"{len(lines)} lines of gauges; {MOST_LINES} are read at most")
    if max(map(len, lines), default=0) > LONGEST_LINE:
        raise ScrapeError(f"a line of more than {LONGEST_LINE} characters")
    found = defaultdict(list)
    for sample in _parsed(lines):
        found[sample.name].append(sample)
    return found


def _parsed(lines: Sequence[str]) -> list[Sample]:
    try:
        families = list(text_string_to_metric_families("\n".join(lines)))
    except (ValueError, IndexError, KeyError) as error:
        raise ScrapeError(f"no Prometheus text: {str(error)[:200]}") from None
    return [sample for family in families for sample in family.samples]


def _figure(
    sources: Iterable[Source],
    samples: dict[str, list[Sample]],
    together: Callable[[Collection[float]], float],
) -> _Figure:
    """The figure from the first source that is there, its engines taken together."""
    for metric, label in sources:
        if figures := _engines(samples.get(metric, ()), label):
            return _Figure(together(figures.values()), metric)
    return _Figure(math.nan, "")


def _engines(samples: Iterable[Sample], label: str) -> dict[str, float]:
    """Engine -> figure; nan where none can be true.

    Engines have a label `engine` in vLLM and `dp_rank` in SGLang. SGLang may repeat the figures for
    each rank of tensor parallelism, and splits them by priority in further series, which it tells
    from the whole by a `priority` that is not empty.
    """
    figures: dict[str, float] = {}
    for sample in samples:
        if sample.labels.get("priority"):
            continue
        engine = sample.labels.get("engine") or sample.labels.get("dp_rank", "")
        known, value = figures.get(engine, math.nan), _value(sample, label)
        figures[engine] = value if math.isnan(known) or value > known else known
    return figures


def _value(sample: Sample, label: str) -> float:
    try:
        value = float(sample.labels.get(label, "")) if label else sample.value
    except ValueError:  # vLLM writes "None" for what it does not know yet
        return math.nan
    return value if 0 <= value < math.inf else math.nan


def _mean_share(shares: Collection[float]) -> float:
    return sum(shares) / len(shares) if all(share <= 1 for share in shares) else math.nan


def _whole(value: float) -> int:
    return int(value) if value < MOST_BLOCKS else 0


def _computed_tokens(samples: dict[str, list[Sample]]) -> float:
    values = [_value(s, "") for metric, _ in COMPUTED_TOKENS for s in samples.get(metric, ())]
    return sum(values) if values else math.nan


class Trust:
    """Whether one backend's gauges are believed.

    Old gauges are not: those of a server that is slow or gone say nothing of now.

    Stuck ones neither. vLLM writes its gauges after a step, and does not step when it has nothing
    to do: when all its requests were aborted at once, it goes on reporting the load that it had, so
    nobody sends it the request that would make it step (vLLM issue 29928). Gauges are stuck if they
    say busy, if neither they nor the counter of tokens has changed for `stuck_after_s`, and if for
    that long this router had nothing there. A working engine fills blocks and counts tokens, so
    gauges that are busy with another router's requests change; and when they do, stuck ones are
    believed again, and not before: a request that is under way is no sign that they are true.

    An engine that hangs looks the same, and it is as well not to believe it. With several engines
    in a server, those that work hide one that is stuck.

    Args:
        old_after_s: seconds after a scrape, until which its gauges are believed.
        stuck_after_s: seconds without any change.
    """

    def __init__(self, old_after_s: float, stuck_after_s: float) -> None:
        self._old_after_s, self._stuck_after_s = old_after_s, stuck_after_s
        self._scraped_s = -math.inf
        self._said: tuple[float | None, ...] = ()
        self._same_since_s = math.inf  # since when the gauges say the same
        self._nothing_since_s = math.inf  # since when the router has nothing in flight there
        self._stuck = False
        self._probed_s = -math.inf

    def scraped(self, now: float, report: EngineReport, own_in_flight: int) -> None:
        """A scrape succeeded.

        Args:
            now: seconds.
            report: what it said.
            own_in_flight: requests of this router that the backend has not finished.
        """
        said = _said(report)
        if said != self._said:
            self._said, self._same_since_s, self._stuck = said, now, False
        if own_in_flight:
            self._nothing_since_s = math.inf
        else:
            self._nothing_since_s = min(self._nothing_since_s, now)
        quiet_s = now - max(self._same_since_s, self._nothing_since_s)
        self._stuck |= _busy(report) and quiet_s >= self._stuck_after_s
        self._scraped_s = now

    def believed(self, now: float) -> bool:
        """Whether the gauges of the last scrape are to be used. False before the first."""
        return self._fresh(now) and not self._stuck

    def due_probe(self, now: float) -> bool:
        """Whether to send one small request now, so that the engine steps.

        Says so once in `stuck_after_s`: whoever asks must then send it.
        """
        due = self._stuck and self._fresh(now) and now - self._probed_s >= self._stuck_after_s
        if due:
            self._probed_s = now
        return due

    def _fresh(self, now: float) -> bool:
        return now - self._scraped_s <= self._old_after_s


def _said(report: EngineReport) -> tuple[float | None, ...]:
    """What changes when an engine works; None for nan, which equals nothing."""
    said = (report.running, report.waiting, report.kv_usage, report.computed_tokens)
    return tuple(None if math.isnan(value) else value for value in said)


def _busy(report: EngineReport) -> bool:
    return report.running > 0 or report.waiting > 0 or report.kv_usage > BUSY_KV_USAGE
