"""
Maps a file into memory, in huge pages where Linux provides them.

A large body is written to the disk from the ring itself, and for each write the kernel
looks up and pins every page of it: with huge pages there are far fewer.

Linux uses huge pages only if file offset and address are aligned alike.  Python's `mmap`
cannot choose the address, so the C library's is called.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
import weakref

HUGE = 2 << 20
"""Bytes of a huge page.  On machines where they are larger, `map_file` gives ordinary pages."""

_COLLAPSE = 25
"""MADV_COLLAPSE of Linux 6.1: makes a mapping huge pages at once, whatever the machine's settings are."""

_NOWHERE, _FAILED = 0, ctypes.c_void_p(-1).value
_FIXED, _NOTHING = 0x10, 0
"""MAP_FIXED and PROT_NONE, which the module `mmap` does not name."""


def map_file(fd: int, size: int) -> memoryview:
    """
    The `size` bytes of the file `fd`, readable and writable; raises OSError.

    The mapping, and its own copy of the descriptor, last until the last view of it is released.
    """
    if size >= HUGE and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            return _map_in_step(fd, size)
    return memoryview(mmap.mmap(fd, size))


def _map_in_step(fd: int, size: int) -> memoryview:
    """Map at a multiple of `HUGE`, found by reserving `HUGE` bytes more than needed."""
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
    libc.madvise(at, size // HUGE * HUGE, _COLLAPSE)  # best effort: refused if memory is short
    memory = (ctypes.c_char * size).from_address(at)
    # Not at exit: other threads may still write then, and the kernel unmaps the memory anyway.
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
