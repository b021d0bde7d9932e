"""What a call costs: list prices as data, and the arithmetic."""
