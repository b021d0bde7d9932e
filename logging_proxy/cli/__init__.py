"""The command `logging-proxy`, which shows captures in a shell."""
