"""What people run for job shops: a comparison of policies, and a benchmark of speed."""
