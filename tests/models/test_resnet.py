import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file

from calib_jax.core.errors import ConfigError
from calib_jax.models import layers
from calib_jax.models.clip import ImageTower
from calib_jax.models.config import ClipConfig, Compute, ResNetConfig, TextConfig
from calib_jax.models.encoder import Encoder
from calib_jax.models.resnet import AttentionPool, Bottleneck, FrozenBatchNorm, ResNetTower


@pytest.fixture(scope="module")
def config():
    return ClipConfig(
        embed_dim=32,
        vision=ResNetConfig(image_size=64, width=16, num_blocks=(1, 1, 1, 1), num_heads=8),
        text=TextConfig(vocab_size=100, context_length=16, width=64, num_layers=2, num_heads=1),
    )


@pytest.fixture(scope="module")
def golden(golden_dir):
    """(The image tower's parameters under our names, inputs and outputs of OpenAI's code)."""
    folder = golden_dir / "openai_tiny_rn"
    params = {}
    for name, x in load_file(folder / "model.safetensors").items():
        part, _, rest = name.partition("visual.")
        if not part and rest and not rest.endswith("num_batches_tracked"):
            params[ours(rest)] = transposed(rest, x)
    return traverse_util.unflatten_dict(params, sep="/"), np.load(folder / "expected.npz")


def ours(name):
    if name == "attnpool.positional_embedding":
        return "pool/position_embedding"
    *parts, leaf = name.split(".")
    if parts[0] == "attnpool":
        module = {"q": "query", "k": "key", "v": "value", "c": "projection"}[parts[1][0]]
        prefix = "" if module == "projection" else "pool/"
        return f"{prefix}{module}/{'kernel' if leaf == 'weight' else leaf}"
    if parts[0].startswith("layer"):
        parts[:2] = [f"stage_{int(parts[0][5:]) - 1}", f"block_{parts[1]}"]
    is_conv = "conv" in parts[-1] or parts[-2:] == ["downsample", "0"]
    leaf = leaf.removeprefix("running_")
    leaf = {"weight": "kernel" if is_conv else "scale"}.get(leaf, leaf)
    if "downsample" in parts:
        parts[-2:] = ["shortcut_conv" if is_conv else "shortcut_norm"]
    else:
        parts[-1] = parts[-1].replace("conv", "conv_").replace("bn", "norm_")
    return "/".join((*parts, leaf))


def transposed(name, x):
    if x.ndim == 4:
        return np.transpose(x, (2, 3, 1, 0))
    return x.T if x.ndim == 2 and "positional" not in name else x


def test_golden_model(config, golden):
    params, expected = golden
    shapes = jax.eval_shape(Encoder(config).init, jax.random.key(0))["image"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    encode = jax.jit(lambda images: Encoder(config).encode_image({"image": params}, images))
    image = encode(jnp.asarray(expected["images_uint8"]))
    np.testing.assert_allclose(image, expected["image_features"], rtol=1e-5, atol=1e-5)


def test_bfloat16_is_close_and_gives_float32(config, golden):
    params, expected = golden
    encoder = Encoder(config, Compute(dtype="bfloat16", remat="full"))
    images = jnp.asarray(expected["images_uint8"])
    image = jax.jit(lambda images: encoder.encode_image({"image": params}, images))(images)
    assert image.dtype == jnp.float32
    error = np.linalg.norm(image - expected["image_features"])
    # Eight bits of mantissa, through some twenty roundings of the activations.
    assert error < 0.02 * np.linalg.norm(expected["image_features"])


def test_golden_gradients_are_the_same_under_remat(config, golden):
    """Recomputing gives the same numbers; the statistics are leaves like others here."""
    params, expected = golden
    images = jnp.asarray(expected["images_uint8"][:2])

    def gradients(remat):
        encoder = Encoder(config, Compute(dtype="float32", remat=remat))
        return jax.jit(
            jax.grad(lambda params: jnp.sum(encoder.encode_image({"image": params}, images) ** 2))
        )(params)

    plain = gradients("none")
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(plain))
    for path, (a, b) in traverse_util.flatten_dict(
        jax.tree.map(lambda *leaves: leaves, plain, gradients("dots"))
    ).items():
        # The gradient of a key's bias is zero but for rounding: softmax does not see it.
        scale = largest if path[-2:] == ("key", "bias") else np.abs(a).max()
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale, err_msg=str(path))


def test_frozen_batch_norm_is_its_formula():
    rng = np.random.default_rng(0)
    params = {name: rng.uniform(0.5, 2, 5) for name in ("scale", "bias", "mean", "var")}
    x = rng.normal(size=(2, 3, 4, 5))
    expected = (x - params["mean"]) / np.sqrt(params["var"] + 1e-5) * params["scale"]
    got = FrozenBatchNorm().apply(
        {"params": jax.tree.map(jnp.float32, params)}, jnp.asarray(x, jnp.float32)
    )
    np.testing.assert_allclose(got, expected + params["bias"], rtol=1e-5, atol=1e-6)


def names_of(module, x):
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    return set(traverse_util.flatten_dict(variables["params"], sep="/"))


@pytest.mark.parametrize(
    ("channels", "stride", "has_shortcut", "shape"),
    [(16, 1, False, (1, 4, 4, 16)), (8, 1, True, (1, 4, 4, 16)), (16, 2, True, (1, 2, 2, 16))],
)
def test_a_shortcut_is_projected_only_where_it_must_be(channels, stride, has_shortcut, shape):
    block, x = Bottleneck(width=4, stride=stride), jnp.zeros((1, 4, 4, channels))
    assert any("shortcut" in name for name in names_of(block, x)) == has_shortcut
    assert jax.eval_shape(block.init_with_output, jax.random.key(0), x)[0].shape == shape


def test_a_block_starts_as_its_shortcut():
    """The last norm of each block starts at scale zero, as OpenAI's."""
    x = jnp.abs(jax.random.normal(jax.random.key(1), (1, 4, 4, 16)))
    y, _ = jax.jit(Bottleneck(width=4, stride=1).init_with_output)(jax.random.key(0), x)
    np.testing.assert_array_equal(y, x)


def test_attention_pool_by_loops():
    heads, width, grid = 2, 6, 2
    x = np.random.default_rng(0).normal(size=(1, grid, grid, width)).astype(np.float32)
    pool = AttentionPool(num_heads=heads)
    variables = jax.jit(pool.init)(jax.random.key(0), jnp.asarray(x))
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    params = jax.tree.map(np.float64, variables["params"])
    cells = np.float64(x.reshape(-1, width))
    tokens = np.concatenate([cells.mean(0, keepdims=True), cells]) + params["position_embedding"]
    query, key, value = (
        tokens @ params[name]["kernel"] + params[name]["bias"] for name in ("query", "key", "value")
    )
    expected = []
    for h in range(heads):
        part = slice(h * 3, (h + 1) * 3)
        weights = np.exp(key[:, part] @ query[0, part] / np.sqrt(3))
        expected.append(weights / weights.sum() @ value[:, part])
    got = jax.jit(pool.apply)(variables, jnp.asarray(x))
    np.testing.assert_allclose(got[0], np.concatenate(expected), rtol=1e-5, atol=1e-6)


def test_a_tower_of_the_other_family_is_refused(config):
    pixels = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    for tower, vision, message in (
        (ResNetTower, ClipConfig().vision, "got VisionConfig, expected ResNetConfig. Use ImageT"),
        (ImageTower, config.vision, "got ResNetConfig, expected VisionConfig. Use ResNetT"),
    ):
        module = tower(ClipConfig(vision=vision), Compute())
        with pytest.raises(ConfigError, match=message):
            jax.eval_shape(module.init, jax.random.key(0), pixels)


def test_the_statistics_carry_the_names_that_masks_look_for(config):
    names = names_of(ResNetTower(config, Compute()), jnp.zeros((1, 64, 64, 3)))
    statistics = {name for name in names if name.endswith(("/mean", "/var"))}
    assert len(statistics) == 2 * (3 + 4 * 4)
    assert {f"{name.rpartition('/')[0]}/scale" for name in statistics} <= names
    assert layers.platform() == "cpu"
