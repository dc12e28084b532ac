import jax
import numpy as np
import pytest
from PIL import Image

from calib_jax.core.errors import ConfigError
from calib_jax.models.weights import table
from calib_jax.models.weights.positions import resize_grid, resize_positions


def flat_of(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(k, simple=True, separator="/"): np.asarray(x) for k, x in leaves}


@pytest.mark.parametrize("side", [3, 9, 5])
def test_each_channel_is_resized_like_an_image(side):
    positions = np.random.default_rng(0).normal(size=(26, 4)).astype(np.float32)
    got = resize_grid(positions, side)
    assert got.shape == (side * side + 1, 4)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[0], positions[0])
    for channel in range(4):
        image = Image.fromarray(positions[1:, channel].reshape(5, 5))
        expected = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(got[1:, channel].reshape(side, side), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "image_size", "path", "grids"),
    [
        ("vit", 32, "image/position_embedding", "2 x 2, interpolated to 4 x 4"),
        ("resnet", 96, "image/pool/position_embedding", "2 x 2, interpolated to 3 x 3"),
    ],
)
def test_a_model_of_another_image_size(request, caplog, model, image_size, path, grids):
    config, params = request.getfixturevalue(model)
    before, flat = config.vision.image_size, flat_of(params)
    new_config, new = resize_positions(config, flat, image_size)
    assert (config.vision.image_size, new_config.vision.image_size) == (before, image_size)
    assert {name: x.shape for name, x in new.items()} == table.shapes_of(new_config)
    assert [name for name in flat if new[name] is not flat[name]] == [path]
    (notice,) = caplog.messages
    assert notice == (
        f"position embeddings: the checkpoint is of {before} pixels, the model takes {image_size}:"
        f" a grid of {grids}"
    )


def test_an_image_size_that_does_not_fit(vit):
    config, params = vit
    with pytest.raises(ConfigError, match=r"image_size: got 20, expected a multiple of 8"):
        resize_positions(config, flat_of(params), 20)
