"""Pictures of a fleet at the moment of a decision."""

from typing import TYPE_CHECKING

import numpy as np

from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.fleet import Fleet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DECODING, PREFILL, KV, DOWN, PREFIX = "#3b75af", "#e2903b", "#5a9e5f", "#d9d9d9", "#8d5fb0"


def caption(fleet: Fleet, decision: RoutingDecision | None) -> str:
    """One line: the time and the request that is due."""
    time = f"t = {fleet.clock.now:.3f} s"
    if decision is None:
        return f"{time}   all requests are done"
    request = decision.request
    known = not np.isnan(request.predicted_tokens)
    predicted = f"{request.predicted_tokens:.0f}" if known else "unknown"
    return (
        f"{time}   request {request.index}: {request.prompt_tokens} prompt tokens, "
        f"predicted output {predicted}"
    )


def _healthy(fleet: Fleet, decision: RoutingDecision | None) -> np.ndarray:
    return np.ones(len(fleet.requests), bool) if decision is None else decision.healthy


def _prefix(fleet: Fleet, decision: RoutingDecision | None) -> np.ndarray:
    return np.zeros(len(fleet.requests), int) if decision is None else decision.prefix_tokens


def table(fleet: Fleet, decision: RoutingDecision | None) -> str:
    """The fleet as text, one line per replica; `-` where no gauge was polled yet."""
    heads = ("replica", "requests", "prefill tok", "decoding", "decode tok", "prefix tok")
    heads += ("running", "waiting", "KV use")
    lines = [caption(fleet, decision), "  ".join(f"{head:>11}" for head in heads)]
    healthy, gauges = _healthy(fleet, decision), fleet.gauges()
    counts = (fleet.requests, fleet.prefill_tokens, fleet.decoding, fleet.decode_tokens())
    counts += (_prefix(fleet, decision),)
    polled = ((gauges.running, ".0f"), (gauges.waiting, ".0f"), (gauges.kv_usage, ".1%"))
    for r in range(len(fleet.requests)):
        cells = [f"{r}" if healthy[r] else f"{r} (down)", *(str(column[r]) for column in counts)]
        cells += ["-" if np.isnan(column[r]) else f"{column[r]:{form}}" for column, form in polled]
        lines.append("  ".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


def picture(fleet: Fleet, decision: RoutingDecision | None) -> np.ndarray:
    """The fleet as uint8 RGB of shape (height, 800, 3); taller for more replicas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = 1.8 + 0.32 * len(fleet.requests)
    figure = Figure(figsize=(8, height), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    load, cache = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    figure.suptitle(caption(fleet, decision), fontsize=10)
    healthy = _healthy(fleet, decision)
    _draw_load(load, fleet, healthy)
    _draw_cache(cache, fleet, _prefix(fleet, decision), decision)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_load(axes: "Axes", fleet: Fleet, healthy: np.ndarray) -> None:
    """Requests in flight, by phase."""
    rows = np.arange(len(fleet.requests))
    prefill = fleet.requests - fleet.decoding
    axes.barh(rows, fleet.decoding, color=DECODING, label="decoding")
    axes.barh(rows, prefill, left=fleet.decoding, color=PREFILL, label="before first token")
    for r in np.flatnonzero(~healthy).tolist():
        axes.axhspan(r - 0.4, r + 0.4, color=DOWN, label="_down")
        axes.text(0.02, r, "down", va="center", transform=axes.get_yaxis_transform())
    axes.set_xlim(0, max(8, 1.15 * fleet.requests.max()))
    axes.set_yticks(rows, [f"replica {r}" for r in rows])
    axes.invert_yaxis()
    axes.set_xlabel("requests in flight")


def _draw_cache(
    axes: "Axes", fleet: Fleet, prefix: np.ndarray, decision: RoutingDecision | None
) -> None:
    """KV cache in use as last polled, and how much of the due prompt it is expected to hold."""
    rows = np.arange(len(fleet.requests))
    axes.barh(
        rows - 0.15, np.nan_to_num(fleet.gauges().kv_usage), 0.5, color=KV, label="KV cache in use"
    )
    prompt = 1 if decision is None else decision.request.prompt_tokens
    axes.barh(rows + 0.25, prefix / prompt, 0.2, color=PREFIX, label="prompt expected in the cache")
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of KV cache, of prompt")
