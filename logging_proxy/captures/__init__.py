"""What a capture is, as values and files, without a server."""
