"""Vidur's processed traces (CSV: arrived_at, num_prefill_tokens, num_decode_tokens).

The files without `arrived_at` are length tables (microsoft/vidur, data/processed_traces/).
"""

from pathlib import Path

import numpy as np

from makespan.traces.arrivals import Poisson
from makespan.traces.readers.assemble import assemble
from makespan.traces.readers.table import check_order, read_table, seconds, whole_numbers
from makespan.traces.workload import Workload

LENGTHS = (whole_numbers("num_prefill_tokens", 0), whole_numbers("num_decode_tokens", 0))


def read(path: Path, rate: float, seed: int) -> Workload:
    """Read a trace with arrival times; there is nothing random about it."""
    table = read_table(path, (seconds("arrived_at"), *LENGTHS))
    arrived = table["arrived_at"]
    check_order(path, "arrived_at", arrived)
    return assemble(path, arrived, table["num_prefill_tokens"], table["num_decode_tokens"])


def read_lengths(path: Path, rate: float, seed: int) -> Workload:
    """Read a length table and give its requests, in the order of the file, Poisson arrivals."""
    table = read_table(path, LENGTHS)
    prompt, output = table["num_prefill_tokens"], table["num_decode_tokens"]
    arrival_s = Poisson(rate).times(np.random.default_rng(seed), len(prompt))
    return assemble(path, arrival_s, prompt, output)
