"""makespan: a scheduling laboratory."""

__version__ = "0.1.0"
