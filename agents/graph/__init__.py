"""Graphs out of padded observations, and a network whose weights do not depend on their size.

A world declares which entries of its observation are nodes and what joins them (`declaration`).
From there everything is common: padded arrays become a torch-geometric batch (`batch`), message
passing over it gives every node an embedding (`encoder`), a head that all nodes share scores the
actions and another values the state (`network`). `plain` is the same network in NumPy, for serving.
"""
