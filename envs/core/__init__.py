"""What every world shares."""
