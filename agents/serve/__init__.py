"""The live router: policies in front of real vLLM servers."""

from makespan.agents.serve.choose import choose

__all__ = ["choose"]
