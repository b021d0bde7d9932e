"""Sending a spool to a logging server elsewhere."""
