"""Which route a request takes, and the destination's URL for it: pure functions on bytes."""
