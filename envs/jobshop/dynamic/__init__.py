"""The job shop as it runs: jobs come over time, machines break down, durations are guesses."""

from makespan.envs.jobshop.dynamic.config import Conditions
from makespan.envs.jobshop.dynamic.simulation import DynamicJobShop

__all__ = ["Conditions", "DynamicJobShop"]
