"""Which route takes a request, and where it goes: pure functions on bytes."""
