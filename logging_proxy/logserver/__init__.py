"""The logging server: takes captures from spools and keeps them as files."""
