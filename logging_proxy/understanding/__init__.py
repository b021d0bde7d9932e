"""Turns the bytes of a body into text, JSON values, model and session.  Pure functions, no I/O."""
