"""Which of several processes does what only one may do."""

from __future__ import annotations

import jax


def is_writer() -> bool:
    """Whether this process writes what all have: the first one does."""
    return jax.process_index() == 0
