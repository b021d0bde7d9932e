"""The configuration file, read once into frozen values."""
