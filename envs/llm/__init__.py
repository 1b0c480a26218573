"""The LLM serving world."""
