import jax
import numpy as np
import pytest
from PIL import Image

from calib_jax.core.errors import DataError
from calib_jax.core.resampling import bicubic_weights, fixed_point_taps, resample
from calib_jax.core.sharding import batched, make_mesh


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((7, 7), (12, 12)),
        ((24, 16), (7, 5)),
        ((50, 33), (17, 40)),
        ((3, 2), (3, 9)),
        ((9, 1), (1, 4)),
    ],
)
def test_two_matrices_resize_as_pillow_does(before, after):
    image = np.random.default_rng(0).normal(size=before).astype(np.float32)
    expected = Image.fromarray(image).resize(after[::-1], Image.Resampling.BICUBIC)
    rows, columns = (bicubic_weights(a, b) for a, b in zip(before, after, strict=True))
    np.testing.assert_allclose(rows @ image @ columns.T, expected, atol=2e-6)


def test_an_enlargement_interpolates_with_keys_cubic():
    # Half-way between samples: -1/16, 9/16, 9/16, -1/16. Twice as many lie at quarters.
    middle = bicubic_weights(8, 16)[7]
    quarter = np.array([-0.0234375, 0.2265625, 0.8671875, -0.0703125])  # 1.25, .25, .75, 1.75
    np.testing.assert_allclose(sorted(middle[middle != 0]), sorted(quarter))


def test_the_same_size_is_the_identity():
    np.testing.assert_array_equal(bicubic_weights(5, 5), np.eye(5))


@pytest.mark.parametrize(("before", "after"), [(5, 13), (13, 5), (1, 3)])
def test_rows_are_averages_and_mirror_images(before, after):
    weights = bicubic_weights(before, after)
    assert weights.shape == (after, before)
    assert weights.dtype == np.float64
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-12)


@pytest.mark.parametrize(("before", "after"), [(0, 3), (3, 0)])
def test_an_empty_axis_is_an_error(before, after):
    with pytest.raises(DataError, match=f"image sizes: got {before} and {after}, expected at lea"):
        bicubic_weights(before, after)


SIZE, SIDE, NUM_TAPS = 12, 30, 13


@pytest.mark.parametrize(("num_in", "num_out"), [(30, 12), (8, 12), (13, 12), (29, 29), (3, 12)])
def test_fixed_point_taps_are_the_weights_in_whole_numbers(num_in, num_out):
    taps = fixed_point_taps(num_in, num_out, slice(0, num_out), num_taps=NUM_TAPS)
    dense = np.zeros((num_out, num_in + NUM_TAPS))
    for output, (first, *coefficients) in enumerate(taps):
        dense[output, first : first + NUM_TAPS] = coefficients
    assert not dense[:, num_in:].any()
    np.testing.assert_allclose(
        dense[:, :num_in] / 2**22, bicubic_weights(num_in, num_out), atol=2e-7
    )
    some = fixed_point_taps(num_in, num_out, slice(2, 5), offset=4, num_taps=NUM_TAPS)
    np.testing.assert_array_equal(some[:, 0], taps[2:5, 0] - 4)
    np.testing.assert_array_equal(some[:, 1:], taps[2:5, 1:])


def test_too_few_taps():
    message = r"got num_taps=5, expected at least 1[01] to resize 30 to 12\. Raise it"
    with pytest.raises(ValueError, match=message):
        fixed_point_taps(30, 12, slice(0, 12), num_taps=5)


def black_and_white(height, width):
    """Steps overshoot in the first pass: it shows whether that is clipped before the second."""
    rng = np.random.default_rng(height * width)
    return (rng.random((height, width, 3)) < 0.5).astype(np.uint8) * 255


@pytest.fixture(scope="module")
def resampled():
    """(Pixels on canvases, taps, what Pillow makes of them), for 16 shapes."""
    rng = np.random.default_rng(0)
    canvases, taps, expected = np.zeros((16, SIDE, SIDE, 3), np.uint8), [], []
    for index, width in enumerate([SIDE, 12, 1, 25, *range(8, 20)]):
        # Wider than tall: Pillow 13 would begin with the rows otherwise.
        height = max(1, min(width, int(rng.integers(3, SIDE))))
        pixels = black_and_white(height, width)
        canvases[index] = rng.integers(0, 256, (SIDE, SIDE, 3))
        canvases[index, :height, :width] = pixels
        whole = slice(0, SIZE)
        taps.append([fixed_point_taps(n, SIZE, whole, num_taps=NUM_TAPS) for n in pixels.shape[:2]])
        wide = Image.fromarray(pixels).resize((SIZE, height), Image.Resampling.BICUBIC)
        expected.append(np.asarray(wide.resize((SIZE, SIZE), Image.Resampling.BICUBIC)))
    return canvases, np.array(taps), np.stack(expected)


def test_the_device_resizes_as_pillow_bit_by_bit_on_1_and_8_devices(resampled):
    canvases, taps, expected = resampled
    for devices in (jax.devices()[:1], jax.devices()):
        sharding = batched(make_mesh(devices=devices))
        resize = jax.jit(resample, in_shardings=sharding, out_shardings=sharding)
        got = resize(canvases, taps)
        assert len(got.sharding.device_set) == len(devices)
        np.testing.assert_array_equal(got, expected)
        assert not np.any(resize(canvases, np.zeros_like(taps)))
