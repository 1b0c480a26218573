"""Traces of requests: readers, generators, catalogue."""
