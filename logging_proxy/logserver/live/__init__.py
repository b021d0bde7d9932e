"""What is under way, the live feed, and lists of both with the index."""
