"""What to run: the configuration of a comparison of router policies."""

import dataclasses
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

from makespan.envs.llm.config import EngineConfig, GaugeConfig, PredictorConfig
from makespan.experiments.configuration import digest, read_config, seed_list, split

REGIMES = "regimes"
COMPARISONS = (REGIMES, "unseen")
"""Traces that stand for a comparison over regimes (`makespan.experiments.regimes`)."""

FIXED = ("replicas", "hardware", "model", "tensor_parallel", "load", "rate")
"""Settings that the comparison over regimes has values of its own for."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the results of a run: the same configuration, the same numbers.

    Attributes:
        env: the world.
        trace: trace file, or name of a synthetic workload or of a public trace that was fetched;
            `regimes` compares the policies over workloads, fleets and loads, which is also what
            `--policy all` does when no trace is named; `unseen` over fleets and loads that agents
            were not trained on.
        policy: comma list of names of policies and agents, or `file.py:function`; `all` for all.
        data: folder with public traces for the comparison over regimes; by default those that were
            fetched, and synthetic workloads in place of those that were not.
        replicas: number of replicas in the fleet.
        hardware: what they run on, by name or as the file that `makespan calibrate` wrote; a comma
            list makes a mixed fleet, its names taken in turn.
        model: the language model they serve; empty: what a hardware file was measured with, else
            Llama-2-7B.
        tensor_parallel: GPUs that share the model in each replica.
        load: arrivals ask for this fraction of the fleet's capacity; 0: a trace is replayed as
            recorded, a synthetic workload asks for 0.9.
        rate: the same in requests/s.
        seeds: number of seeds, or a comma list of them (`7,` for seed 7 alone); empty: 3, or 10 in
            the comparison over regimes.
        requests: size of a synthetic workload or of a cell of the comparison over regimes (0:
            2000), or the first so many of a trace (0: all).
        engine: settings of every engine.
        gauges: how the router polls the engines.
        predictor: what the router knows of output lengths.

    Raises:
        ValueError: a value is out of range; the message names the option.
    """

    env: Literal["llm_router"] = "llm_router"
    trace: str = "sharegpt_sessions"
    policy: str = "all"
    data: str = ""
    replicas: int = 4
    hardware: str = "A100"
    model: str = ""
    tensor_parallel: int = 1
    load: float = 0.0
    rate: float = 0.0
    seeds: str = ""
    requests: int = 0
    engine: EngineConfig = field(default_factory=EngineConfig)
    gauges: GaugeConfig = field(default_factory=GaugeConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise ValueError(f"--replicas must be at least 1, not {self.replicas}")
        if self.tensor_parallel < 1:
            raise ValueError(f"--tensor-parallel must be at least 1, not {self.tensor_parallel}")
        for option in ("load", "rate", "requests"):
            if not 0 <= getattr(self, option) < float("inf"):
                raise ValueError(f"--{option} must not be negative, not {getattr(self, option)}")
        if self.load and self.rate:
            raise ValueError("--load and --rate both set the arrival rate: give one of them")
        if not split(self.hardware):
            raise ValueError("--hardware names no hardware")
        if not split(self.policy):
            raise ValueError("--policy names no policy")
        _ = self.seed_list
        self._check_regimes()

    @property
    def seed_list(self) -> list[int]:
        """The seeds of the run."""
        return seed_list(self.seeds or ("10" if self.trace in COMPARISONS else "3"))

    @property
    def default_name(self) -> str:
        """Name of the run folder: world, workload, digest."""
        return f"{self.env}-{Path(self.trace).name.partition('.')[0]}-{digest(self)}"

    def _check_regimes(self) -> None:
        if self.trace not in COMPARISONS and self.data:
            raise ValueError("--data is for the comparison over regimes (--trace regimes)")
        defaults = {f.name: f.default for f in dataclasses.fields(self) if f.name in FIXED}
        changed = [name for name, default in defaults.items() if getattr(self, name) != default]
        if self.trace in COMPARISONS and changed:
            option = changed[0].replace("_", "-")
            raise ValueError(
                f"--{option} is fixed in the comparison over regimes: leave it out, or give --trace"
            )


def replica_hardware(hardware: str, replicas: int) -> list[str]:
    """What each replica runs on: the names of the comma list in turn."""
    return list(islice(cycle(split(hardware)), replicas))


def from_toml(path: Path) -> RunConfig:
    """Read what `to_toml` wrote; see `read_config`."""
    return read_config(RunConfig, path)
