"""Domains and classes are TFDS's."""

import tensorflow_datasets as tfds

from calib_jax.data.datasets import domainnet


def test_they_are_what_tfds_knows(tmp_path):
    configs = tfds.builder_cls("domainnet").builder_configs
    assert tuple(configs) == domainnet.DOMAINS
    builder = tfds.builder(domainnet.domain("sketch").name, data_dir=str(tmp_path))
    names = tuple(n.replace("_", " ") for n in builder.info.features["label"].names)
    assert names == domainnet.CLASS_NAMES
    assert len(set(names)) == 345
