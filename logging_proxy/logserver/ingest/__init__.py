"""From spools to events: reading segments, putting records together, spools of proxies elsewhere."""
