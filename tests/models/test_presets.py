import inspect

import jax
import pytest

from calib_jax.core import trees
from calib_jax.models import presets
from calib_jax.models.config import ResNetConfig
from calib_jax.models.encoder import Encoder

COUNTS = {
    "vit_b32": 151_277_313,
    "vit_b16": 149_620_737,
    "vit_l14": 427_616_513,
    "vit_l14_336": 427_944_193,
    "vit_h14": 986_109_441,
    "rn50": 102_007_137,
    "rn101": 119_688_033,
}


def test_the_table_is_complete():
    own = inspect.getmembers(presets, inspect.isfunction)
    public = {name for name, f in own if f.__module__ == presets.__name__}
    assert public == {*COUNTS, "tiny"}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_the_published_ones(name):
    """Those of the original implementations, which count no statistics."""
    preset = getattr(presets, name)
    params = jax.eval_shape(Encoder(preset()).init, jax.random.key(0))
    leaves = zip(trees.leaf_names(params), jax.tree.leaves(params), strict=True)
    assert sum(x.size for path, x in leaves if not trees.is_statistic(path)) == COUNTS[name]
    assert f"{COUNTS[name]:,} parameters" in inspect.getdoc(preset)


@pytest.mark.parametrize("name", COUNTS)
def test_heads_have_the_size_that_openais_naming_implies(name):
    config = getattr(presets, name)()
    assert config.activation == ("gelu" if name == "vit_h14" else "quick_gelu")
    assert config.text.width == 64 * config.text.num_heads
    if isinstance(config.vision, ResNetConfig):
        assert config.vision.num_features == 64 * config.vision.num_heads
    else:
        size = 80 if name == "vit_h14" else 64
        assert config.vision.width == size * config.vision.num_heads


def test_every_call_gives_a_config_of_its_own():
    presets.vit_b16().vision.image_size = 32
    presets.vit_l14_336()
    assert presets.vit_b16().vision.image_size == 224
    assert presets.vit_l14().vision.image_size == 224


def test_tiny_takes_its_sizes():
    config = presets.tiny(
        vocab_size=30, context_length=8, image_size=12, patch_size=4, width=128, text_width=48
    )
    config.validate()
    assert (config.vision.width, config.text.width) == (128, 48)
    assert (config.vision.num_layers, config.text.num_layers) == (3, 2)
    assert (config.vision.num_heads, config.text.num_heads) == (2, 1)
    assert (config.vision.image_size, config.vision.patch_size) == (12, 4)
    assert (config.text.vocab_size, config.text.context_length) == (30, 8)
