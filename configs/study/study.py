"""The study: every method on CIFAR-10 and on PACS, from one small CLIP; run it from the root.

Both experiments at a time, after the pre-training; on an accelerator, `--config.processes=1`.
`study.py:pretrain`, `study.py:cifar10` and `study.py:pacs` do one part; the last writes the report.
"""

from calib_jax.runs.study import Study
from configs.study import cifar10, pacs, pretrain
from configs.study.methods import ORDER


def get_config(only: str = "") -> Study:
    return Study(
        title="Robust fine-tuning of a small CLIP",
        pretrain=pretrain.get_config(),
        experiments={"cifar10": cifar10.get_config(), "pacs": pacs.get_config()},
        order=ORDER,
        baselines=("flyp", "carot", "tracer"),
        only=only,
        processes=2,
    )
