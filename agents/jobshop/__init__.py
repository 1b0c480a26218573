"""Networks that schedule job shops, and how they are trained."""
