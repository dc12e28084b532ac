"""What OOD scores may look at: quantities of the examples of a split, each made when asked for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from calib_jax.core import numerics
from calib_jax.core.errors import ConfigError

Source = np.ndarray | Callable[[], np.ndarray]
"""An array, or what makes it."""

Rows = Literal["logits", "similarities"]


class Quantities:
    """The quantities of a split's n examples; each is made at most once, and only if asked for."""

    def __init__(
        self,
        *,
        logits: Source | None = None,
        similarities: Source | None = None,
        features: Source | None = None,
        patches: Source | None = None,
        class_bank: Source | None = None,
        negative_bank: Source | None = None,
        labels: Source | None = None,
    ):
        """Keeps what there is; None: no score may ask for it."""
        sources = {
            "logits": logits,
            "similarities": similarities,
            "features": features,
            "patches": patches,
            "class_bank": class_bank,
            "negative_bank": negative_bank,
            "labels": labels,
        }
        self._sources = {name: source for name, source in sources.items() if source is not None}
        self._made: dict[str, np.ndarray] = {}
        self._peaks: dict[tuple[str, float], tuple[np.ndarray, np.ndarray]] = {}
        self._visible = frozenset(sources)

    def missing(self, names: Collection[str]) -> list[str]:
        """Those of the names that there is no quantity of."""
        return sorted(set(names) - set(self._sources))

    def only(self, names: Collection[str]) -> Quantities:
        """The same quantities, of which a score sees those that it says it needs."""
        view = copy.copy(self)  # shares what is made
        view._visible = frozenset(names)
        return view

    @property
    def logits(self) -> Float[np.ndarray, "n c"]:
        """Class scores before the softmax."""
        return self._get("logits")

    @property
    def similarities(self) -> Float[np.ndarray, "n c"]:
        """Cosines of image and class embeddings, in -1..1."""
        return self._get("similarities")

    @property
    def features(self) -> Float[np.ndarray, "n d"]:
        """Un-normalised image embeddings."""
        return self._get("features")

    @property
    def patches(self) -> Float[np.ndarray, "n p d"]:
        """Un-normalised embeddings of the p patches of each image."""
        return self._get("patches")

    @property
    def class_bank(self) -> Float[np.ndarray, "c d"]:
        """Unit-norm embeddings of the c classes."""
        return self._get("class_bank")

    @property
    def negative_bank(self) -> Float[np.ndarray, "m d"]:
        """Unit-norm embeddings of m texts that are no class."""
        return self._get("negative_bank")

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """The true classes: those of a reference, which a score is fitted to."""
        return self._get("labels")

    def largest(self, of: Rows) -> Float[np.ndarray, " n"]:
        """The largest logit or similarity of each example."""
        values = self._get(of)
        for (name, _), (largest, _) in self._peaks.items():
            if name == of:
                return largest
        return values.max(axis=1).astype(np.float64)

    def sum_exp_from_largest(
        self, of: Rows, *, temperature: float = 1.0
    ) -> Float[np.ndarray, " n"]:
        """`sum_k exp((x_k - max x) / T)` of each example, in [1, c].

        One pass over all classes serves every score that asks for it at this temperature.

        Raises:
            ConfigError: A temperature that is not a finite number above 0.
        """
        key = (of, float(temperature))
        if key not in self._peaks:
            values = self._get(of)
            self._peaks[key] = numerics.max_and_sum_exp(values, temperature=temperature)
        return self._peaks[key][1]

    def _get(self, name: str) -> np.ndarray:
        if name not in self._visible:
            raise ConfigError(
                f"quantities: got a score that reads {name!r}, expected {_listed(self._visible)}, "
                f"which it says it needs. Add {name!r} to its `needs`."
            )
        if name not in self._sources:
            raise ConfigError(
                f"quantities: got no {name!r}, expected {_listed(self._sources)}. "
                "Give it, or use another score."
            )
        if name not in self._made:
            source = self._sources[name]
            self._made[name] = source if isinstance(source, np.ndarray) else source()
        return self._made[name]


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
