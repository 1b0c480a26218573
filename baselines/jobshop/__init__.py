"""Rules for job shops, each a function from a shop to the priorities of its operations.

>>> from makespan.baselines.jobshop import dispatch
>>> from makespan.traces.jobshop import benchmark
>>> dispatch(benchmark("ft06"), "mwkr", "nondelay").makespan
61
"""

from makespan.baselines.jobshop.rules import RULES, dispatch

__all__ = ["RULES", "dispatch"]
