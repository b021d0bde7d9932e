"""What knows the privates of Twisted or of the kernel.

The reactor, sending and reading, listening, limits, the part in C.
"""
