"""`make demo`: real clients talk to a small real model through the proxy, and the captures are shown."""
