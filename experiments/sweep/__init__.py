"""Grids of policies, traces, loads and seeds, and tuning of agents, on Ray: `makespan sweep`."""
