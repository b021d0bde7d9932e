"""Uploads: halves of exchanges that other proxies record and send with PUT."""
