"""Job shops: schedules, how they are made, and the environments over that."""
