"""Real vLLM servers over their HTTP API: measuring one, and comparing the simulator with it."""
