"""Captures that were made elsewhere, as they are put."""
