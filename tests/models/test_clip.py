import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.models import presets
from calib_jax.models.config import Compute, ResNetConfig
from calib_jax.models.encoder import Encoder

BLOCK = [
    "attention/key/bias",
    "attention/key/kernel",
    "attention/out/bias",
    "attention/out/kernel",
    "attention/query/bias",
    "attention/query/kernel",
    "attention/value/bias",
    "attention/value/kernel",
    "mlp/down/bias",
    "mlp/down/kernel",
    "mlp/up/bias",
    "mlp/up/kernel",
    "norm_1/bias",
    "norm_1/scale",
    "norm_2/bias",
    "norm_2/scale",
]
IMAGE = [
    "class_embedding",
    "norm_post/bias",
    "norm_post/scale",
    "norm_pre/bias",
    "norm_pre/scale",
    "patch/kernel",
    "position_embedding",
    "projection/kernel",
]
TEXT = [
    "norm_final/bias",
    "norm_final/scale",
    "position_embedding",
    "projection/kernel",
    "token_embedding",
]


def flatten(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}


def test_parameter_names_never_change():
    """Checkpoints, masks and weight tables address parameters by these names."""
    config = presets.tiny(vocab_size=9, context_length=4, num_layers=2)
    expected = ["logit_scale"]
    for tower, names in (("image", IMAGE), ("text", TEXT)):
        expected += [f"{tower}/{name}" for name in names]
        expected += [f"{tower}/block_{i}/{name}" for i in range(2) for name in BLOCK]
    params = jax.eval_shape(Encoder(config).init, jax.random.key(0))
    assert sorted(flatten(params)) == sorted(expected)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_how_it_is_computed_does_not_change_the_parameters(small, scan, remat):
    """A checkpoint of one setting serves all."""
    compute = Compute(dtype="bfloat16", scan=scan, remat=remat)
    shapes = jax.eval_shape(Encoder(small, compute).init, jax.random.key(0))
    assert flatten(shapes) == flatten(shapes_of(small))


def test_parameters_start_with_openai_spread():
    layers, w = 2, 64
    config = presets.tiny(
        vocab_size=500, context_length=64, width=w, num_layers=layers, embed_dim=96, image_size=64
    )
    config.initial_logit_scale = 5.0
    params = flatten(jax.jit(Encoder(config).init)(jax.random.key(0)))
    assert float(params.pop("logit_scale")) == pytest.approx(math.log(5))
    residual = (2 * layers * w) ** -0.5
    expected = {
        "text/token_embedding": 0.02,
        "text/position_embedding": 0.01,
        "image/class_embedding": w**-0.5,
        "image/position_embedding": w**-0.5,
        "image/patch/kernel": (3 * 3 * 8 * 8) ** -0.5,
        "image/projection/kernel": w**-0.5,
        "text/projection/kernel": w**-0.5,
        "query/kernel": w**-0.5,
        "key/kernel": w**-0.5,
        "value/kernel": w**-0.5,
        "attention/out/kernel": residual,
        "mlp/up/kernel": (2 * w) ** -0.5,
        "mlp/down/kernel": residual,
    }
    for path, x in params.items():
        if path.endswith("bias"):
            assert not x.any(), path
        elif path.endswith("scale"):
            assert (x == 1).all(), path
        else:
            (std,) = (value for name, value in expected.items() if path.endswith(name))
            spread = 5 / math.sqrt(2 * x.size)  # five standard errors
            np.testing.assert_allclose(float(jnp.std(x)), std, rtol=spread, err_msg=path)


def shapes_of(config):
    return jax.eval_shape(Encoder(config).init, jax.random.key(0))


def replace(config, path, value):
    part, _, name = path.rpartition(".")
    if not part:
        return dataclasses.replace(config, **{name: value})
    tower = dataclasses.replace(getattr(config, part), **{name: value})
    return dataclasses.replace(config, **{part: tower})


SHAPING = {
    "embed_dim": 32,
    "vision.image_size": 32,
    "vision.patch_size": 4,
    "vision.width": 32,
    "vision.num_layers": 2,
    "vision.mlp_ratio": 3.5,
    "text.vocab_size": 12,
    "text.context_length": 7,
    "text.width": 32,
    "text.num_layers": 2,
    "text.mlp_ratio": 2.0,
}
RESNET_SHAPING = {
    "vision.image_size": 64,
    "vision.width": 4,
    "vision.num_blocks": (1, 1, 2, 1),
}
COMPUTING = {
    "activation": "gelu",
    "pixel_mean": (0.0, 0.0, 0.0),
    "pixel_std": (1.0, 1.0, 1.0),
    "vision.num_heads": 4,
    "text.num_heads": 4,
}


@pytest.fixture
def small():
    return presets.tiny(vocab_size=11, context_length=6, image_size=16, num_layers=1, text_layers=1)


def test_every_field_is_read(small):
    names = {f.name for f in dataclasses.fields(small)} - {"vision", "text"}
    for part in ("vision", "text"):
        names |= {f"{part}.{f.name}" for f in dataclasses.fields(getattr(small, part))}
    assert names == {*SHAPING, *COMPUTING, "initial_logit_scale"}  # the last: tested above


@pytest.mark.parametrize("path", SHAPING)
def test_sizes_change_the_parameters(small, path):
    changed = replace(small, path, SHAPING[path])
    assert flatten(shapes_of(changed)) != flatten(shapes_of(small))


@pytest.mark.parametrize("path", RESNET_SHAPING)
def test_sizes_change_the_parameters_of_a_resnet(small, path):
    names = {f"vision.{f.name}" for f in dataclasses.fields(ResNetConfig)}
    assert names == {*RESNET_SHAPING, "vision.num_heads"}  # the last: test_resnet.py
    vision = ResNetConfig(image_size=32, width=2, num_blocks=(1, 1, 1, 1), num_heads=2)
    resnet = dataclasses.replace(small, vision=vision)
    changed = replace(resnet, path, RESNET_SHAPING[path])
    assert flatten(shapes_of(changed)) != flatten(shapes_of(resnet))


def test_other_fields_change_the_outputs_alone(small):
    rng = np.random.default_rng(0)
    shapes = shapes_of(small)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)
    images = jnp.asarray(rng.integers(0, 256, (1, 16, 16, 3)), jnp.uint8)
    tokens = jnp.arange(5)[None]

    @functools.partial(jax.jit, static_argnums=0)
    def outputs(encoder, params, images, tokens):
        return encoder.encode_image(params, images), encoder.encode_text(params, tokens)

    reference = outputs(Encoder(small), params, images, tokens)
    for path, value in COMPUTING.items():
        config = replace(small, path, value)
        assert flatten(shapes_of(config)) == flatten(shapes)
        got = outputs(Encoder(config), params, images, tokens)
        changed = [not np.allclose(a, b, rtol=1e-4) for a, b in zip(got, reference, strict=True)]
        in_image = path == "activation" or path.startswith(("pixel", "vision"))
        in_text = path == "activation" or path.startswith("text")
        assert changed == [in_image, in_text], path
