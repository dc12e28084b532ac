"""What the papers report on ImageNet with CLIP ViT-B/16: their numbers, not this library's.

ID: the ImageNet validation set. OOD: the plain mean over V2, R, A, Sketch and ObjectNet. The
papers' ECE is the mean of the ECEs of unshuffled batches of 512 (10 bins). It is never below the
ECE of the whole split: a perfectly calibrated model gets about 0.04.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One method as its source reports it; fractions in 0..1.

    Attributes:
        method: The paper's name of it.
        id_accuracy: On the ImageNet validation set.
        ood_accuracy: Mean over the five shifted sets.
        ood_ece: Mean over the five shifted sets of the average ECE of a batch.
        source: Where the numbers stand.
    """

    method: str
    id_accuracy: float
    ood_accuracy: float
    ood_ece: float
    source: str


TITLE = "Published: ImageNet, CLIP ViT-B/16"
NOTE = (
    "Numbers of the papers, not ours: ImageNet-1k, CLIP ViT-B/16; OOD is the mean over V2, R, A, "
    "Sketch and ObjectNet. Their ECE is an average over batches of 512 images (10 bins), on which "
    "a perfectly calibrated model gets about 4 %; ours is that of the whole split. Compare the "
    "order of the methods, not the numbers: LP-FT is above FLYP here, below it on ViT-L/14. "
    "Sources: TRACER (arXiv 2605.29380), mean of three seeds; CaRot (arXiv 2311.01723), a row "
    "quoted from memory, not checked against the paper."
)

_TRACER = "TRACER, tables 1 and 5"
# The one row that TRACER's tables do not have.
_CAROT = "CaRot, from memory"

IMAGENET = (
    Published("zero-shot", 0.6833, 0.5839, 0.074, _TRACER),
    Published("FT", 0.8153, 0.5750, 0.2186, _CAROT),
    Published("LP-FT", 0.8244, 0.5991, 0.147, _TRACER),
    Published("FLYP", 0.8272, 0.5945, 0.184, _TRACER),
    Published("Lipsum-FT", 0.8332, 0.6103, 0.091, _TRACER),
    Published("CaRot", 0.8315, 0.6254, 0.079, _TRACER),
    Published("TRACER", 0.8276, 0.6407, 0.073, _TRACER),
)
