"""Everything that relies on internals of Twisted or the kernel.

The reactor, reads and writes of sockets, listening, descriptor limits, the C extension.
"""
