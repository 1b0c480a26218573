"""Projects as an environment: which task begins next, and which waits."""
