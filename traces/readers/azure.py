"""Azure LLM inference traces of 2023 and 2024 (CSV: TIMESTAMP, ContextTokens, GeneratedTokens).

Time stamps are UTC, without a zone in 2023 and with `+00:00` in 2024
(Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and AzureLLMInferenceDataset2024.md).
"""

from pathlib import Path

import numpy as np

from makespan.traces.readers.assemble import assemble
from makespan.traces.readers.table import check_order, instants, read_table, whole_numbers
from makespan.traces.workload import Workload

COLUMNS = (
    instants("TIMESTAMP"),
    whole_numbers("ContextTokens", 0),
    whole_numbers("GeneratedTokens", 0),
)


def read(path: Path, rate: float, seed: int) -> Workload:
    """Read one trace; there is nothing random about it."""
    table = read_table(path, COLUMNS)
    stamps = table["TIMESTAMP"]
    check_order(path, "TIMESTAMP", stamps)
    arrival_s = (stamps - stamps[0]).astype(np.int64) * 1e-9
    return assemble(path, arrival_s, table["ContextTokens"], table["GeneratedTokens"])
