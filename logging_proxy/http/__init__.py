"""The HTTP/1.1 engine: sans-IO grammar and framing, and the connections that carry twisted.web Resources."""
