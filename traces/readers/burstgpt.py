"""BurstGPT (CSV: Timestamp, Session ID, Elapsed time, Model, Request tokens, Response tokens, ...).

Time stamps are seconds; rows with 0 response tokens are failed requests and are left out
(HPMLL/BurstGPT, README.md). Release 1.0 has neither `Session ID` nor `Elapsed time`.
"""

from pathlib import Path

import numpy as np

from makespan.traces.readers.assemble import assemble, encode
from makespan.traces.readers.table import (
    check_order,
    read_table,
    seconds,
    whole_numbers,
    words,
)
from makespan.traces.workload import Workload

COLUMNS = (
    seconds("Timestamp"),
    words("Session ID", default=""),
    words("Model"),
    whole_numbers("Request tokens", 0),
    whole_numbers("Response tokens", 0),
    words("Log Type"),
)


def read(path: Path, rate: float, seed: int) -> Workload:
    """Read one trace; the log type (conversation or API) becomes the SLO class."""
    table = read_table(path, COLUMNS)
    check_order(path, "Timestamp", table["Timestamp"])
    model, models = encode(table["Model"])
    slo_class, slo_classes = encode(table["Log Type"])
    return assemble(
        path,
        table["Timestamp"],
        table["Request tokens"],
        table["Response tokens"],
        session=_sessions(table["Session ID"]),
        model=model,
        models=models,
        slo_class=slo_class,
        slo_classes=slo_classes,
    )


def _sessions(names: np.ndarray) -> np.ndarray:
    """Number of the session, in order of appearance; -1 where the cell is empty."""
    code, distinct = encode(names)
    number = np.cumsum([name != "" for name in distinct]) - 1
    number[[name == "" for name in distinct]] = -1
    return number[code]
