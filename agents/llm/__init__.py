"""Learned routers for the LLM serving world."""
