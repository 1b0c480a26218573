"""Improving a complete schedule of a job shop, swap by swap."""
