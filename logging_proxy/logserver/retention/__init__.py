"""What is deleted when, and whether the clock is to be believed."""
