"""Every check of a world against what was published, measured or proved, as rows of one table."""
