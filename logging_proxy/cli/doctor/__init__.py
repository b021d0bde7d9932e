"""The command `doctor`: whether the proxy can work on this machine with this configuration."""
