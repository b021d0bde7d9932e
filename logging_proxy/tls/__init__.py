"""TLS: what certificates and keys say, and the contexts made of them for listeners and upstreams."""
