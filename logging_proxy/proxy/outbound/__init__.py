"""Connections that go through an outbound proxy: which one, and how it is asked."""
