"""The proxy's side of a capture: records, the ring in memory, the spool on disk."""
