"""Policies compared over regimes: `--policy all` without a trace, or `--trace regimes`."""
