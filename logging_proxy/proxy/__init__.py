"""Forwarding: the Resource tree of the routes, the two halves of an exchange, ProxyClient and its pool."""
