"""The command `logging-proxy`: looking at captures from a shell."""
