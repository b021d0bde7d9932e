"""`make demo`: a small real model, the proxy before it, real clients, and what the proxy kept of them."""
