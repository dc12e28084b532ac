"""Huge pages for XLA's temporaries, which glibc gives a process that is started with them."""

import os
import sys

TUNABLES = "GLIBC_TUNABLES"


def restart() -> None:
    """The process begins anew with huge pages, before it has imported what allocates.

    Not where the environment says how to allocate, were it with an empty GLIBC_TUNABLES, nor under
    a debugger, which would lose it. Another libc, or glibc before 2.35, takes no notice.
    """
    if sys.platform != "linux" or TUNABLES in os.environ or sys.gettrace() is not None:
        return
    os.environ[TUNABLES] = "glibc.malloc.hugetlb=1"
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except (OSError, ValueError):  # it cannot be found again: it runs as it is, only slower
        del os.environ[TUNABLES]
