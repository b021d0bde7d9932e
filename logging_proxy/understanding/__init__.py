"""From bytes to meaning, without I/O: codings, text, JSON, model and session."""
