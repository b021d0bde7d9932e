"""The logging server's HTTP: who may call, and what is at which address."""
