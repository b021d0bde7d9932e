"""
Fault injection with figures: what must hold when peers misbehave, disks fail and processes die.

Each module is one fault test with two scales: `FULL` for `make stress`, `SMALL` for the end-to-end tests.
All traffic stays on the loopback interface, and every loop is bounded.
"""
