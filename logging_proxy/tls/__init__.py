"""TLS: certificates and keys, and the contexts made from them for listeners and upstreams."""
