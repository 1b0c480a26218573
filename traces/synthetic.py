"""Synthetic workloads: arrivals, lengths, conversations and shared system prompts put together."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from makespan.traces import lengths as measured
from makespan.traces.arrivals import Arrivals, Gamma, MarkovModulated, Poisson
from makespan.traces.lengths import Fixed, Lengths, LogNormal
from makespan.traces.sessions import SharedPrompts, Turns, hash_rows
from makespan.traces.workload import Workload

SOURCES = ("arrivals", "turns", "first", "later", "answers", "think", "choice", "system")
"""Sources of randomness; each has its own child of the seed, so that changing one leaves the
others as they are."""


@dataclass(frozen=True)
class SessionConfig:
    """Conversations of several turns.

    Attributes:
        mean_turns: mean of the geometric distribution of turns, before `longest` cuts.
        later: length of the user's messages after the first.
        think_s: mean of the exponential pause between an answer and the next message. No public
            trace used here tells it; the default is an assumption.
        longest: a conversation ends before its messages and answers pass this many tokens (the
            system prompt aside); 0: no limit.
    """

    mean_turns: float = 3.5
    later: Lengths = measured.SHAREGPT_LATER
    think_s: float = 30.0
    longest: int = 0

    def __post_init__(self) -> None:
        if self.mean_turns < 1:
            raise ValueError(f"mean_turns must be at least 1, not {self.mean_turns}")
        if self.think_s < 0 or self.longest < 0:
            raise ValueError("think_s and longest must not be negative")


@dataclass(frozen=True)
class SystemPromptConfig:
    """System prompts that sessions share.

    Attributes:
        count: number of system prompts.
        tokens: their lengths.
        exponent: popularity of the k-th is proportional to k ** -exponent (Zipf); 0: uniform.
    """

    count: int = 8
    tokens: Lengths = field(default_factory=lambda: LogNormal(mean=600, median=450, longest=4000))
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if self.count < 1 or self.exponent < 0:
            raise ValueError("needs count >= 1 and exponent >= 0")


@dataclass(frozen=True)
class SyntheticConfig:
    """A synthetic workload.

    Attributes:
        requests: how many.
        arrivals: of requests; conversations start by the same process at a lower rate.
        prompt: length of the (first) user message.
        output: length of the answers.
        sessions: conversations; None: every request stands alone.
        system_prompts: shared ones; None: no system prompt.
        name: name of the workload.
    """

    requests: int = 2000
    arrivals: Arrivals = field(default_factory=lambda: Poisson(rate=10.0))
    prompt: Lengths = measured.AZURE_CONV_PROMPT
    output: Lengths = measured.AZURE_CONV_OUTPUT
    sessions: SessionConfig | None = None
    system_prompts: SystemPromptConfig | None = None
    name: str = "synthetic"

    def __post_init__(self) -> None:
        if self.requests < 1:
            raise ValueError(f"requests must be at least 1, not {self.requests}")


def generate(config: SyntheticConfig, seed: int = 0) -> Workload:
    """Make the workload that `config` describes; the same seed gives the same one.

    With conversations, it is a window of a process that has been going on: conversations begin
    before it and end after it, so that the rate is steady from the first request on. Prefix hashes
    are given only where something can be shared.
    """
    seeds = dict(zip(SOURCES, np.random.SeedSequence(seed).spawn(len(SOURCES)), strict=True))
    mean_turns = config.sessions.mean_turns if config.sessions else 1.0
    sessions = int(np.ceil(config.requests / mean_turns))
    while True:
        draw = {source: np.random.default_rng(child) for source, child in seeds.items()}
        workload = _window(config, draw, sessions)
        if workload is not None:
            return workload
        sessions += sessions // 2 + 32


def _window(
    config: SyntheticConfig, draw: dict[str, np.random.Generator], sessions: int
) -> Workload | None:
    """The workload out of that many sessions, or None if it takes more of them."""
    turns, shared = _conversations(config, draw, sessions)
    if not turns.sessions:
        return None
    think_s = config.sessions.think_s if config.sessions else 0.0
    pauses = think_s * draw["think"].standard_exponential(len(turns.session))
    rate = config.arrivals.rate * turns.sessions / len(turns.session)
    starts = config.arrivals.at_rate(rate).times(draw["arrivals"], turns.sessions)
    arrival_s = turns.arrivals(starts, pauses)
    order = np.argsort(arrival_s, kind="stable")
    opens_s = _usual_span(arrival_s, turns)
    rows = order[np.searchsorted(arrival_s[order], opens_s) :][: config.requests]
    if len(rows) < config.requests or arrival_s[rows[-1]] > starts[-1]:
        return None
    hashes, offsets = _hashes(config, turns, shared, rows)
    return Workload(
        arrival_s=arrival_s[rows] - arrival_s[rows[0]],
        prompt_tokens=turns.prompts(shared.session_tokens)[rows],
        output_tokens=turns.answer_tokens[rows],
        hashes=hashes,
        hash_offsets=offsets,
        session=turns.session[rows] if config.sessions else np.full(len(rows), -1),
        name=config.name,
    )


def _conversations(
    config: SyntheticConfig, draw: dict[str, np.random.Generator], sessions: int
) -> tuple[Turns, SharedPrompts]:
    count = np.ones(sessions, np.int64)
    if config.sessions:
        count = draw["turns"].geometric(1 / config.sessions.mean_turns, sessions)
    session = np.repeat(np.arange(sessions), count)
    first = np.concatenate([[True], session[1:] != session[:-1]])
    user = np.empty(len(session), np.int64)
    user[first] = config.prompt.sample(draw["first"], sessions)
    if config.sessions:
        user[~first] = config.sessions.later.sample(draw["later"], len(session) - sessions)
    turns = Turns(session, user, config.output.sample(draw["answers"], len(session)))
    shared = _system_prompts(config.system_prompts, draw, sessions)
    return _cut(config.sessions, turns, shared)


def _system_prompts(
    config: SystemPromptConfig | None, draw: dict[str, np.random.Generator], sessions: int
) -> SharedPrompts:
    if config is None:
        return SharedPrompts.none(sessions)
    weight = np.arange(1, config.count + 1) ** -config.exponent
    chosen = draw["choice"].choice(config.count, sessions, p=weight / weight.sum())
    return SharedPrompts(config.tokens.sample(draw["system"], config.count), chosen)


def _cut(
    config: SessionConfig | None, turns: Turns, shared: SharedPrompts
) -> tuple[Turns, SharedPrompts]:
    """End each conversation before it gets too long."""
    if config is None or config.longest == 0:
        return turns, shared
    tokens = turns.user_tokens + turns.answer_tokens
    kept = turns.before(tokens) + tokens <= config.longest
    if turns.sessions > 1000 and not kept.any():
        raise ValueError(f"no conversation of these lengths fits into {config.longest} tokens")
    survivors = np.unique(turns.session[kept])
    return turns.kept(kept), SharedPrompts(shared.tokens, shared.of_session[survivors])


def _usual_span(arrival_s: np.ndarray, turns: Turns) -> float:
    """Seconds from the first turn to the last in all but 1 % of the conversations."""
    last = np.concatenate([turns.first_rows[1:], [len(arrival_s)]]) - 1
    return float(np.quantile(arrival_s[last] - arrival_s[turns.first_rows], 0.99))


def _hashes(
    config: SyntheticConfig, turns: Turns, shared: SharedPrompts, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if config.sessions is None and config.system_prompts is None:
        return np.zeros(0, np.int64), np.zeros(len(rows) + 1, np.int64)
    return hash_rows(turns, shared, rows)


def _azure_conv() -> SyntheticConfig:
    """Azure 2023 conversation: lengths, rate and variation of the gaps as measured."""
    return SyntheticConfig(arrivals=Gamma(rate=5.53, cv=1.094))


def _azure_code() -> SyntheticConfig:
    """Azure 2023 code completion: long prompts, short answers, extreme bursts."""
    return SyntheticConfig(
        arrivals=Gamma(rate=2.567, cv=13.15),
        prompt=measured.AZURE_CODE_PROMPT,
        output=measured.AZURE_CODE_OUTPUT,
    )


def _mooncake_conversation() -> SyntheticConfig:
    """Mooncake's conversation trace: questions about very long texts, in short conversations.

    The number of turns is chosen for the share of prompt tokens that the trace can reuse.
    """
    return SyntheticConfig(
        arrivals=Gamma(rate=3.40, cv=3.03),
        prompt=measured.MOONCAKE_PROMPT,
        output=measured.MOONCAKE_OUTPUT,
        sessions=SessionConfig(mean_turns=1.6),
    )


def _sharegpt_sessions() -> SyntheticConfig:
    """Conversations of ShareGPT's shape behind 8 shared system prompts of Zipf popularity.

    Turns and longest conversation are chosen for ShareGPT's prompt lengths, history included.
    """
    return SyntheticConfig(
        arrivals=Poisson(rate=10.0),
        prompt=measured.SHAREGPT_FIRST,
        output=measured.SHAREGPT_ANSWER,
        sessions=SessionConfig(mean_turns=4.5, longest=2200),
        system_prompts=SystemPromptConfig(),
    )


def _steady() -> SyntheticConfig:
    """Identical requests, 512 tokens in and 128 out, Poisson arrivals."""
    return SyntheticConfig(prompt=Fixed(512), output=Fixed(128))


def _bursty() -> SyntheticConfig:
    """Azure 2023 conversation lengths; bursts of 5 times the calm rate, 5 s in every 25 s."""
    arrivals = MarkovModulated(rate=10.0, burst=5.0, calm_s=20.0, busy_s=5.0)
    return SyntheticConfig(arrivals=arrivals)


SYNTHETIC: dict[str, Callable[[], SyntheticConfig]] = {
    "azure_conv": _azure_conv,
    "azure_code": _azure_code,
    "mooncake_conversation": _mooncake_conversation,
    "sharegpt_sessions": _sharegpt_sessions,
    "steady": _steady,
    "bursty": _bursty,
}
"""Named synthetic workloads."""


def synthetic(name: str, requests: int = 2000, rate: float = 0.0, seed: int = 0) -> Workload:
    """A named synthetic workload.

    Args:
        name: a key of `SYNTHETIC`.
        requests: how many.
        rate: requests per second; 0: that of the named workload.
        seed: of all randomness.

    Raises:
        ValueError: no such name; the message lists those there are.
    """
    if name not in SYNTHETIC:
        raise ValueError(f"unknown synthetic workload {name!r}; known: {', '.join(SYNTHETIC)}")
    config = replace(SYNTHETIC[name](), requests=requests, name=name)
    if rate:
        config = replace(config, arrivals=config.arrivals.at_rate(rate))
    return generate(config, seed)
