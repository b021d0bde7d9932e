"""
Faults on purpose, with figures: what must hold when peers misbehave, disks fail and processes die.

Each module is one fault test.  It runs in two scales: `FULL` for `make stress` and `SMALL` for the
end-to-end tests.  Only loopback addresses, every loop bounded.
"""
