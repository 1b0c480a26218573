"""The regimes that policies are compared over: what is asked, of which fleet, and how much."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

MODEL = "Llama-3.1-8B"

LOADS = (0.5, 0.8, 1.0, 1.2)
"""Shares of the fleet's capacity that the requests ask for."""

FLEETS = {
    "4xA100": ("A100",) * 4,
    "mixed": ("A100", "H100", "A100", "L40S"),
    "16xA100": ("A100",) * 16,
    "64mixed": ("A100", "H100", "A100", "L40S") * 16,
    "newGPUs": ("H200", "RTXPRO6000", "RTXPRO6000", "A40"),
    "failing": ("A100",) * 4,
}
"""Name of a fleet -> what its replicas run on."""

FAILING = ("failing", 0, 0.3, 0.2)
"""A fleet, its replica that fails, and when, and for how long, as shares of the time in which
requests arrive."""


@dataclass(frozen=True)
class Kind:
    """A kind of traffic.

    Attributes:
        words: what it is.
        synthetic: the synthetic workload of this kind; stands in where there is a trace that is
            not on this machine.
        public: name of the trace in the catalogue; empty: there is none.
        files: names of the trace's file.
        first: share of the trace that comes before what policies are compared on: agents may have
            been trained on it.
    """

    words: str
    synthetic: str
    public: str = ""
    files: tuple[str, ...] = ()
    first: float = 0.0


WORKLOADS = {
    "mooncake": Kind(
        words="Mooncake conversations",
        synthetic="mooncake_conversation",
        public="mooncake-conversation",
        files=("conversation_trace.jsonl", "mooncake_conversation_trace.jsonl.gz"),
    ),
    "azure": Kind(
        words="Azure conversations of 2023, second half",
        synthetic="azure_conv",
        public="azure-conv-2023",
        files=("AzureLLMInferenceTrace_conv.csv",),
        first=0.5,
    ),
    "sessions": Kind(words="chats that re-send their history", synthetic="sharegpt_sessions"),
}
"""Name of a workload -> what it is."""


@dataclass(frozen=True)
class Regime:
    """One situation that policies are compared in.

    Attributes:
        workload: key of `WORKLOADS`.
        fleet: key of `FLEETS`.
        load: share of the fleet's capacity that the requests ask for.
    """

    workload: str
    fleet: str
    load: float

    @property
    def name(self) -> str:
        """Such as `azure mixed 0.8`."""
        return f"{self.workload} {self.fleet} {self.load:.1f}"


Regimes = tuple[Regime, ...]


def _regimes(workloads: Iterable[str], fleets: Iterable[str], loads: Iterable[float]) -> Regimes:
    return tuple(Regime(*parts) for parts in product(workloads, fleets, loads))


SUITES: dict[str, Regimes] = {
    "regimes": _regimes(WORKLOADS, ("4xA100", "mixed"), LOADS),
    "unseen": (
        *_regimes(WORKLOADS, ("16xA100", "64mixed", "newGPUs", "failing"), (0.9,)),
        *_regimes(("sessions",), ("4xA100",), (0.3, 1.5)),
    ),
}
"""Name of a comparison -> its regimes, in the order of the table. In `unseen`, agents meet fleets
larger than any that they were trained on, GPUs that were not among those, loads below and above,
and a replica that fails, which they know from training, on workloads that they do not know."""
