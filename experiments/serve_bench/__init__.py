"""What a router in front of the servers costs: `makespan bench serve`."""
