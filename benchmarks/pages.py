"""Memory that stays with the process, so that a timing is of arithmetic and not of the kernel that hands pages out.

By itself the C library gives large tensors back when they are freed, and which layer of a row pays for the pages of the
next is chance: a single shape then swings by half. Networks in training keep theirs, for they allocate all the time.
"""

from __future__ import annotations

import ctypes
import sys

#: glibc's parameters of `mallopt`, and a size above all that is timed.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_KEPT, _AT_ONCE = 2**31 - 1, 64 * 2**20


def keep_pages() -> bool:
    """Have the C library keep what is freed, from now on and for all ways alike; False where it is not glibc."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((_TRIM_THRESHOLD, _KEPT), (_MMAP_THRESHOLD, _KEPT), (_TOP_PAD, _AT_ONCE))
    return all(mallopt(parameter, value) == 1 for parameter, value in wanted)
