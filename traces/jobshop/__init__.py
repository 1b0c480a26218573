"""Job shops: instances, the published benchmarks and what is known of them, readers, generators."""

from makespan.traces.jobshop.benchmarks import BENCHMARKS, benchmark
from makespan.traces.jobshop.instance import JobShop
from makespan.traces.jobshop.readers import read

__all__ = ["BENCHMARKS", "JobShop", "benchmark", "read"]
