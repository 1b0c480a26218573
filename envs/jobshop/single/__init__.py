"""One machine and jobs whose sizes may be unknown: the simulator and the environment over it."""
