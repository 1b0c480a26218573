"""What a policy network sees of a `RoutingDecision`: padded float32 arrays with masks.

The same `Encoder` feeds the gymnasium environment and the live router, so it reads nothing but the
public attributes of the decision. Every number x of a field is shown as

    sign(x) * log1p(|x|) / log1p(reference)

with the field's reference, a typical large value, which is thus shown as 1: small values stay
distinguishable, large ones stay small, zero is zero, and the raw value can be recovered. What is
not known is shown as 0, with a field beside it that says so. Replicas that do not exist are rows of
zeros.
"""

import math
from dataclasses import dataclass

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.llm.decision import RequestView, RoutingDecision
from makespan.envs.llm.step_time import StepTimeModel

LIMIT = 10.0
"""Bound of every field; what would be beyond is cut."""

PREFILL_CHUNK = 1024
"""Prompt tokens in the step by which a replica's prefill speed is measured."""


@dataclass(frozen=True)
class Field:
    """One column of an observation.

    Attributes:
        name: what it is.
        unit: of the raw value.
        reference: raw value that is shown as 1.
    """

    name: str
    unit: str
    reference: float


REPLICA_FIELDS = (
    Field("requests", "requests in flight, by the router's count", 256),
    Field("prefill_tokens", "uncached prompt tokens in flight without a first token", 65_536),
    Field("decoding", "requests in flight that are streaming", 256),
    Field("decode_tokens", "prompt and streamed tokens of those", 262_144),
    Field("prefix_tokens", "tokens of this prompt expected in the replica's cache", 8192),
    Field("uncached_tokens", "tokens of this prompt not expected there", 8192),
    Field("kv_load", "tokens in flight with this prompt, as a share of the KV cache", 1),
    Field("prefill_s", "seconds to compute the prefill tokens and this prompt's", 1),
    Field("running", "requests in the running batch, polled", 256),
    Field("waiting", "requests in the engine's queue, polled", 256),
    Field("kv_usage", "share of KV blocks in use, polled", 1),
    Field("gauge_age_s", "seconds since the polled values were true", 10),
    Field("gauge_known", "1 if the replica has been polled", 1),
    Field("kv_tokens", "tokens that fit the KV cache", 262_144),
    Field("decode_step_s", "seconds of a decode step of one sequence", 0.1),
    Field("prefill_token_s", "seconds per prompt token in a step of 1024", 0.001),
)
"""Columns of `replica`."""

REQUEST_FIELDS = (
    Field("prompt_tokens", "tokens", 8192),
    Field("predicted_tokens", "predicted output tokens", 2048),
    Field("prediction_known", "1 if there is a prediction", 1),
    Field("in_session", "1 if the request belongs to a conversation", 1),
    Field("priority", "as in vLLM, lower is more urgent", 10),
    Field("attempt", "times it was sent to a replica that failed", 3),
)
"""Entries of `request`."""

_REPLICA_SCALE = np.array([1 / math.log1p(field.reference) for field in REPLICA_FIELDS])
_REQUEST_SCALE = np.array([1 / math.log1p(field.reference) for field in REQUEST_FIELDS])


@kernel
def _show(values, scale, out):
    """Write the numbers `values` to `out` as they are shown."""
    for j in range(len(values)):
        value = values[j]
        shown = math.copysign(math.log1p(abs(value)), value) * scale[j]
        out[j] = 0.0 if math.isnan(value) else min(max(shown, -LIMIT), LIMIT)


@kernel
def _show_replicas(
    out,
    prompt_tokens,
    requests,
    prefill_tokens,
    decoding,
    decode_tokens,
    prefix_tokens,
    running,
    waiting,
    kv_usage,
    age_s,
    hardware,
):
    """Fill one row of `out` per replica, in the order of `REPLICA_FIELDS`."""
    for r in range(requests.size):
        kv_tokens, decode_step_s, prefill_token_s = hardware[0, r], hardware[1, r], hardware[2, r]
        uncached_tokens = prompt_tokens - prefix_tokens[r]
        to_prefill = prefill_tokens[r] + uncached_tokens
        values = (
            float(requests[r]),
            float(prefill_tokens[r]),
            float(decoding[r]),
            float(decode_tokens[r]),
            float(prefix_tokens[r]),
            float(uncached_tokens),
            (to_prefill + decode_tokens[r]) / kv_tokens,
            to_prefill * prefill_token_s,
            running[r],
            waiting[r],
            kv_usage[r],
            age_s[r],
            1.0 if age_s[r] >= 0 else 0.0,
            kv_tokens,
            decode_step_s,
            prefill_token_s,
        )
        _show(values, _REPLICA_SCALE, out[r])


def prefill_token_s(model: StepTimeModel) -> float:
    """Seconds per token of a step that computes `PREFILL_CHUNK` tokens of one prompt."""
    chunk = PREFILL_CHUNK
    work = chunk * chunk / 2
    return model.step(prefill_sequences=1, prefill_tokens=chunk, prefill_work=work) / chunk


def _numbers(request: RequestView) -> tuple[float, ...]:
    """The raw values of `REQUEST_FIELDS`."""
    return (
        float(request.prompt_tokens),
        request.predicted_tokens,
        float(request.predicted_tokens >= 0),
        float(request.session >= 0),
        float(request.priority),
        float(request.attempt),
    )


class Encoder:
    """Turns decisions of fleets of any size up to `max_replicas` into arrays of one shape.

    Actions 0..max_replicas-1 are the replicas; with `hold`, action `max_replicas` holds.

    Raises:
        ValueError: on a decision with more than `max_replicas` replicas.
    """

    def __init__(self, max_replicas: int, hold: bool = False) -> None:
        self.max_replicas = max_replicas
        self.hold = hold
        self._step_time: list | None = None
        self._hardware = np.zeros((0, 0))

    def encode(
        self, decision: RoutingDecision, mask: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """New float32 arrays, all 0 where there is nothing to show:

        `replica` (max_replicas, 16), the columns `REPLICA_FIELDS`; `replica_mask` (max_replicas,),
        1 where a replica exists; `request` (6,), the entries `REQUEST_FIELDS`; `action_mask`
        (max_replicas,) or (max_replicas + 1,), 1 where an action is legal.

        Args:
            decision: with no more than `max_replicas` replicas.
            mask: that of `mask(decision)`, if it is there already.
        """
        observation = self.padding(self.mask(decision) if mask is None else mask)
        observation["replica_mask"][: decision.replicas] = 1.0
        request, gauges = decision.request, decision.gauges
        _show_replicas(
            observation["replica"],
            request.prompt_tokens,
            decision.requests,
            decision.prefill_tokens,
            decision.decoding,
            decision.decode_tokens,
            decision.prefix_tokens,
            gauges.running,
            gauges.waiting,
            gauges.kv_usage,
            gauges.age_s,
            self._hardware_of(decision),
        )
        _show(_numbers(request), _REQUEST_SCALE, observation["request"])
        return observation

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of nothing, with `mask` as its `action_mask`."""
        return {
            "action_mask": mask.astype(np.float32),
            "replica": np.zeros((self.max_replicas, len(REPLICA_FIELDS)), np.float32),
            "replica_mask": np.zeros(self.max_replicas, np.float32),
            "request": np.zeros(len(REQUEST_FIELDS), np.float32),
        }

    def mask(self, decision: RoutingDecision) -> np.ndarray:
        """New bool array (max_replicas,) or (max_replicas + 1,): the actions that are legal."""
        n = decision.replicas
        if n > self.max_replicas:
            raise ValueError(
                f"the fleet has {n} replicas, the encoder room for {self.max_replicas}"
            )
        mask = np.zeros(self.max_replicas + self.hold, np.bool_)
        mask[:n] = decision.healthy
        if self.hold and decision.can_hold:
            mask[-1] = decision.action_mask[-1]
        return mask

    def answer(self, decision: RoutingDecision, action: int) -> int:
        """The action of `decision` that `action` of the padded space stands for."""
        return decision.replicas if action == self.max_replicas else action

    def _hardware_of(self, decision: RoutingDecision) -> np.ndarray:
        """float64 (3, N): the last of `REPLICA_FIELDS`, which change only with the fleet."""
        if decision.step_time is not self._step_time:
            self._step_time = decision.step_time
            self._hardware = np.empty((3, decision.replicas))
            self._hardware[0] = (decision.kv_blocks - 1) * decision.block_size
            for r, model in enumerate(decision.step_time):
                self._hardware[1, r] = model.step(decode_sequences=1, decode_context=1)
                self._hardware[2, r] = prefill_token_s(model)
        return self._hardware
