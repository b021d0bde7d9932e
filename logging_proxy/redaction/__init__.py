"""Recognises secrets, by the names of fields and parameters and by the form of values, and hides them."""
