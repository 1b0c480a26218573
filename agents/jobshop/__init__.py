"""Agents for job shops."""
