"""Where the parameters of the towers live on a mesh.

The rules are applied to the names of the whole state, so the optimizer's moments and the EMA
teacher follow their parameters.
"""

from __future__ import annotations

from typing import Any

from jax.sharding import Mesh

from calib_jax.core.sharding import FSDP_AXIS, Rule, shardings

FSDP_RULES: tuple[Rule, ...] = (
    (r".*/token_embedding$", (FSDP_AXIS, None)),
    # Convolutions, whose kernels have four axes, the output channels last.
    (r".*/(patch|conv_\d|shortcut_conv)/kernel$", (None, None, None, FSDP_AXIS)),
    (r".*/kernel$", (None, FSDP_AXIS)),
    (r".*", ()),
)
"""The first match counts; the last row replicates whatever is left (biases, norms, scalars)."""


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """The sharding of every leaf of a state, or of its shapes, by `FSDP_RULES`.

    Raises:
        ConfigError: As `core.sharding.shardings`.
    """
    return shardings(state, mesh, FSDP_RULES)
