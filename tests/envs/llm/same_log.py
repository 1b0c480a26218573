"""What "the same run" means to the tests that compare two."""

import numpy as np


def assert_same_log(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    """Fail unless times agree to 1e-9 relative and everything else exactly."""
    assert a.keys() == b.keys()
    for name, column in a.items():
        tolerance = 1e-9 if column.dtype == np.float64 else 0
        np.testing.assert_allclose(column, b[name], rtol=tolerance, err_msg=name)
