"""Forwarding: the Resource tree of the routes, and exchanges with their two directions."""
