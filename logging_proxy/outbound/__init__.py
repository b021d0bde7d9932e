"""Connecting to a destination: name resolution, addresses, outbound proxies."""
