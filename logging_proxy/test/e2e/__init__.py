"""End-to-end tests: real processes, real sockets, and the files that they leave."""
