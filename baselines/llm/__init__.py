"""Routing policies for the LLM serving world."""
