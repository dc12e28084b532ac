"""Histogram binning: a probability becomes the frequency in its bin of the calibration split.

The bins hold equally many examples (Zadrozny and Elkan 2001; Guo et al. 2017, section 4.1), up to
ties.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from calib_jax.calibrators import checks, one_vs_rest
from calib_jax.core import inputs, numerics


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopLabelHistogram:
    """The largest probability replaced, the others scaled to what it leaves.

    Where the frequency is below 1/2 another class may come out on top.

    Attributes:
        frequency: Share of correct predictions in each bin.
        edges: The lower ends of the bins but the first.
    """

    frequency: Float[np.ndarray, " m"]
    edges: Float[np.ndarray, " m-1"]

    def probs(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """`q` for the predicted class, `p_k (1 - q) / sum_{j != top} p_j` for the others.

        The others share evenly where their probabilities underflow; a single class keeps 1.
        """
        inputs.check_unlabelled(logits, name="logits")
        others = numerics.softmax(logits)
        num_classes = others.shape[1]
        if num_classes == 1:
            return others
        top = (np.arange(len(others)), others.argmax(axis=1))
        confidence = self.frequency[_bins(others[top], self.edges)]
        others[top] = 0
        rest = others.sum(axis=1, keepdims=True)
        even = rest == 0
        others = np.where(even, 1 / (num_classes - 1), others / np.where(even, 1, rest))
        others *= 1 - confidence[:, None]
        others[top] = confidence
        return others


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneVsRestHistogram:
    """Every class probability replaced by a frequency, then normalised; predictions may change.

    Attributes:
        frequency: Share of each class in each of its bins.
        edges: The lower ends of each class's bins but the first.
    """

    frequency: Float[np.ndarray, "c m"]
    edges: Float[np.ndarray, "c m-1"]

    def probs(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """The normalised frequencies; the model's own probabilities where all are 0."""
        checks.check_fitted(logits, len(self.frequency))
        probs = numerics.softmax(logits)
        values = np.empty_like(probs)
        for k, (edges, frequency) in enumerate(zip(self.edges, self.frequency, strict=True)):
            values[:, k] = frequency[_bins(probs[:, k], edges)]
        return one_vs_rest.joined(values, probs)


@dataclasses.dataclass(kw_only=True)
class TopLabelBinning:
    """Histogram binning of the confidence; Gupta and Ramdas 2022 bin each predicted class alone.

    Attributes:
        num_bins: m.
    """

    num_bins: int = 15

    def validate(self) -> None:
        """Raises a ConfigError for fewer than one bin."""
        checks.check_count(self.num_bins, name="num_bins")

    def fit(
        self, logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
    ) -> TopLabelHistogram:
        """Accuracy in `num_bins` bins of the largest probability.

        Raises:
            ConfigError: Fewer than one bin.
            DataError: As `core.inputs.check_matrix`, and for fewer examples than bins.
        """
        self.validate()
        inputs.check_matrix(logits, labels, name="logits")
        checks.check_bins_can_be_filled(self.num_bins, len(logits))
        confidence = 1 / numerics.sum_exp_from_max(logits)
        edges, frequency = _histogram(confidence, logits.argmax(axis=1) == labels, self.num_bins)
        return TopLabelHistogram(edges=edges, frequency=frequency)


@dataclasses.dataclass(kw_only=True)
class OneVsRestBinning:
    """Histogram binning of every class probability (Zadrozny and Elkan 2002; Guo et al. 2017).

    Attributes:
        num_bins: m.
    """

    num_bins: int = 15

    def validate(self) -> None:
        """Raises a ConfigError for fewer than one bin."""
        checks.check_count(self.num_bins, name="num_bins")

    def fit(
        self, logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
    ) -> OneVsRestHistogram:
        """Frequency of each class in `num_bins` bins of its probability.

        A class without examples has frequency 0.

        Raises:
            ConfigError: Fewer than one bin.
            DataError: As `core.inputs.check_matrix`, and for fewer examples than bins.
        """
        self.validate()
        inputs.check_matrix(logits, labels, name="logits")
        checks.check_bins_can_be_filled(self.num_bins, len(logits))
        histograms = [
            _histogram(probs, hits, self.num_bins)
            for probs, hits in one_vs_rest.class_probs(logits, labels)
        ]
        edges, frequency = (np.stack(arrays) for arrays in zip(*histograms, strict=True))
        return OneVsRestHistogram(edges=edges, frequency=frequency)

    def notes(self, fitted: OneVsRestHistogram, labels: Int[np.ndarray, " n"]) -> list[str]:
        """Whether classes have no example, whose parameters say nothing then."""
        return checks.notes_on_classes(labels, num_classes=len(fitted.frequency))


def _histogram(probs: np.ndarray, hits: np.ndarray, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Inner edges and frequencies of bins `[edge_b, edge_{b+1})` of about equal mass."""
    ranks = np.arange(1, num_bins) * len(probs) // num_bins
    edges = np.partition(probs, ranks)[ranks] if num_bins > 1 else np.empty(0)
    bins = _bins(probs, edges)
    count = np.bincount(bins, minlength=num_bins)
    frequency = np.bincount(bins, weights=hits, minlength=num_bins) / np.maximum(count, 1)
    # Ties leave bins empty: such a bin takes the next one's frequency, or the last one's.
    filled = np.flatnonzero(count)
    following = np.searchsorted(filled, np.arange(num_bins))
    return edges, frequency[filled[np.minimum(following, len(filled) - 1)]]


def _bins(probs: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.searchsorted(edges, probs, side="right")
