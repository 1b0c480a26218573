"""Requests, and the workload that holds them: what every reader and generator returns.

A `Workload` keeps its requests as columns, so that a million of them is a handful of arrays, and is
validated once, when it is made. A `Request` is one row of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np

HASH_BLOCK_TOKENS = 16
"""Tokens per entry of `prefix_hashes`: vLLM's default KV block."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a language model.

    Attributes:
        arrival_s: seconds from the start of the workload.
        prompt_tokens: length of the prompt, at least 1.
        output_tokens: length of the answer, at least 1. Hidden from every policy.
        prefix_hashes: one non-negative integer per full block of 16 tokens of prompt and answer,
            from the first. Each stands for the whole text up to the end of its block, so two
            requests share a prefix exactly as far as their hashes agree. May stop early: what
            follows is unique to the request.
        session: conversation the request belongs to; -1 for none.
        priority: lower is more urgent, as in vLLM.
        slo_class: name of the service class.
        model: name of the model it was sent to in the trace.
    """

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    prefix_hashes: tuple[int, ...] = ()
    session: int = -1
    priority: int = 0
    slo_class: str = ""
    model: str = ""


def _column(values: object, dtype: type) -> np.ndarray:
    array = np.asarray(values, dtype=dtype)
    # A read-only array that owns its data can be shared; anything else might change under us.
    if array.flags.writeable or array.base is not None:
        array = array.copy()
        array.setflags(write=False)
    return array


@dataclass(frozen=True)
class Workload:
    """Requests in order of arrival, as read-only columns of shape (n,).

    Attributes:
        arrival_s: float64, seconds, non-negative, not decreasing.
        prompt_tokens: int64, at least 1.
        output_tokens: int64, at least 1.
        hash_offsets: int64 (n + 1,): request i owns `hashes[hash_offsets[i]:hash_offsets[i + 1]]`.
        hashes: int64, the prefix hashes of all requests, non-negative (see `Request`).
        session: int64, -1 for none.
        priority: int64.
        slo_class, model: int64 indices into `slo_classes` and `models`.
        slo_classes, models: the names.
        name: where the workload comes from.

    Raises:
        ValueError: a column has the wrong length, is out of range or out of order; the message
            names the column and the first request at fault.
    """

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    hash_offsets: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    session: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    priority: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    slo_class: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    model: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    slo_classes: tuple[str, ...] = ("",)
    models: tuple[str, ...] = ("",)
    name: str = ""

    def __post_init__(self) -> None:
        n = len(np.atleast_1d(np.asarray(self.arrival_s)))
        absent = {"hash_offsets": (n + 1, 0), "session": (n, -1), "priority": (n, 0)}
        absent |= {"slo_class": (n, 0), "model": (n, 0)}
        for column in fields(self):
            if column.name in ("slo_classes", "models", "name"):
                continue
            values = getattr(self, column.name)
            if column.name in absent and len(values) == 0:
                values = np.full(*absent[column.name])
            dtype = np.float64 if column.name == "arrival_s" else np.int64
            object.__setattr__(self, column.name, _column(values, dtype))
        self._validate(n)

    def _validate(self, n: int) -> None:
        for name in ("prompt_tokens", "output_tokens", "session", "priority", "slo_class", "model"):
            if getattr(self, name).shape != (n,):
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, expected ({n},)")
        unreal = ~np.isfinite(self.arrival_s) | (self.arrival_s < 0)
        self._check("arrival_s", unreal, "be finite and >= 0")
        self._check("arrival_s", np.diff(self.arrival_s, prepend=0.0) < 0, "not decrease")
        self._check("prompt_tokens", self.prompt_tokens < 1, "be at least 1")
        self._check("output_tokens", self.output_tokens < 1, "be at least 1")
        for name, names in (("slo_class", self.slo_classes), ("model", self.models)):
            code = getattr(self, name)
            self._check(name, (code < 0) | (code >= len(names)), f"index {names}")
        offsets = self.hash_offsets
        if offsets.shape != (n + 1,) or offsets[0] != 0 or offsets[-1] != len(self.hashes):
            raise ValueError("hash_offsets must be n + 1 integers from 0 to len(hashes)")
        self._check("hash_offsets", np.diff(offsets) < 0, "not decrease")
        if len(self.hashes) and self.hashes.min() < 0:
            raise ValueError("hashes must be non-negative")

    def _check(self, name: str, bad: np.ndarray, rule: str) -> None:
        if bad.any():
            index = int(bad.argmax())
            value = getattr(self, name)[index]
            raise ValueError(f"request {index}: {name} must {rule}, not {value}")

    @classmethod
    def from_requests(cls, requests: Sequence[Request], name: str = "") -> Self:
        """Collect `requests`, which must be in order of arrival."""
        slo_classes = tuple(dict.fromkeys(r.slo_class for r in requests)) or ("",)
        models = tuple(dict.fromkeys(r.model for r in requests)) or ("",)
        lengths = [len(r.prefix_hashes) for r in requests]
        return cls(
            arrival_s=np.array([r.arrival_s for r in requests], np.float64),
            prompt_tokens=np.array([r.prompt_tokens for r in requests], np.int64),
            output_tokens=np.array([r.output_tokens for r in requests], np.int64),
            hash_offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            hashes=np.array([h for r in requests for h in r.prefix_hashes], np.int64),
            session=np.array([r.session for r in requests], np.int64),
            priority=np.array([r.priority for r in requests], np.int64),
            slo_class=np.array([slo_classes.index(r.slo_class) for r in requests], np.int64),
            model=np.array([models.index(r.model) for r in requests], np.int64),
            slo_classes=slo_classes,
            models=models,
            name=name,
        )

    def __len__(self) -> int:
        return len(self.arrival_s)

    def __getitem__(self, index: int) -> Request:
        return Request(
            arrival_s=float(self.arrival_s[index]),
            prompt_tokens=int(self.prompt_tokens[index]),
            output_tokens=int(self.output_tokens[index]),
            prefix_hashes=tuple(self.prefix_hashes(index).tolist()),
            session=int(self.session[index]),
            priority=int(self.priority[index]),
            slo_class=self.slo_classes[self.slo_class[index]],
            model=self.models[self.model[index]],
        )

    def __iter__(self) -> Iterator[Request]:
        return (self[i] for i in range(len(self)))

    def prefix_hashes(self, index: int) -> np.ndarray:
        """int64 array: the prefix hashes of request `index`."""
        return self.hashes[self.hash_offsets[index] : self.hash_offsets[index + 1]]

    @property
    def duration_s(self) -> float:
        """Seconds from the first arrival to the last."""
        return float(self.arrival_s[-1] - self.arrival_s[0]) if len(self) else 0.0

    @property
    def rate(self) -> float:
        """Mean arrivals per second; 0 when there is no span to divide by."""
        return (len(self) - 1) / self.duration_s if self.duration_s > 0 else 0.0

    def renamed(self, name: str) -> Self:
        """The same requests under another name."""
        return replace(self, name=name)
