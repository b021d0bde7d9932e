"""Retention: the choice of captures to delete, the rounds that delete them, and trust in the clock."""
