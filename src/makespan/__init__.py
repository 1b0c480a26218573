"""makespan: a scheduling laboratory.

`import makespan` makes the environments known to gymnasium and loads nothing heavy.
"""

import makespan.envs as envs

__version__ = "0.1.0"

__all__ = ["__version__", "envs"]
