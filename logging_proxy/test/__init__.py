"""Tests of logging_proxy."""
