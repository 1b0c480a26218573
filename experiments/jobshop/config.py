"""What to run: the configuration of a comparison on job shops."""

from dataclasses import dataclass
from typing import Literal

from makespan.experiments.configuration import digest, seed_list, split


@dataclass(frozen=True)
class JobShopConfig:
    """Everything that decides the results of a run, but for solvers that stop by the clock.

    Attributes:
        env: the world.
        set: comma list of job shops: names (`ta01`), families (`ta`, `la`, `ft`, ...), those of one
            size (`ta15x15`), files, or `small`, fifteen of three sizes.
        policy: comma list of rules with the way of making a schedule (`spt`, which is
            `spt:nondelay`, `spt:active`), `agent` and `agent:128` (a trained one, greedy, or the
            best of so many schedules; `agent:FOLDER`, `agent:FOLDER:128`), `improve:500` and
            `tabu:5000` (so many swaps, by a trained agent and by tabu search), `relinking:1000000`
            (moves of many tabu searches, by path relinking), `cpsat:10s`,
            `random:128` (the best of so many random schedules), solvers by name, `FILE.py:FUNCTION`
            (which takes `seed` if it draws), or `rules` for all rules; `default`: the rules and one
            or two of each of the others, as far as they are installed; of these two groups only
            what takes a choice of machines, where a job shop has one.
        seeds: number of seeds, or a comma list of them (`7,` for seed 7 alone), for policies that
            draw.

    Raises:
        ValueError: a value is out of range; the message names the option.
    """

    env: Literal["job_shop"] = "job_shop"
    set: str = "small"
    policy: str = "default"
    seeds: str = "1"

    def __post_init__(self) -> None:
        for option in ("set", "policy"):
            if not split(getattr(self, option)):
                raise ValueError(f"--{option} names nothing")
        _ = self.seed_list

    @property
    def seed_list(self) -> list[int]:
        """The seeds of the run."""
        return seed_list(self.seeds)

    @property
    def default_name(self) -> str:
        """Name of the run folder: world, digest."""
        return f"{self.env}-{digest(self)}"
