"""Discrete-event worlds and the gymnasium environments over them."""
