"""Reaching a destination: names, addresses, outbound proxies."""
