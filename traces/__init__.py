"""Traces of requests: readers, generators, catalogue."""

from makespan.traces.errors import TraceError, TraceWarning
from makespan.traces.readers import read, write
from makespan.traces.workload import Request, Workload

__all__ = ["Request", "TraceError", "TraceWarning", "Workload", "read", "write"]
