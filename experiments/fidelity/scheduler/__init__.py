"""The scheduler against that of the real vLLM, step for step, and against itself without jumps."""
