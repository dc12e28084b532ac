import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from calib_jax.core.errors import ConfigError
from calib_jax.models import layers, presets
from calib_jax.models.clip import ClipConfig
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


def test_remat_keeps_the_parameter_names(small, monkeypatch):
    """Saving memory must not orphan checkpoints; Flax renames a module that has no name."""
    before = shapes_of(small)
    seen = []
    block = nn.remat(layers.Block)
    monkeypatch.setattr(layers, "Block", lambda **fields: seen.append(0) or block(**fields))
    after = shapes_of(small)
    assert len(seen) == 2  # one layer a tower
    assert flatten(after) == flatten(before)


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


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("embed_dim", 0, r"embed_dim: got 0, expected at least 1\."),
        ("vision.num_layers", 0, r"vision\.num_layers: got 0, expected at least 1\."),
        ("text.vocab_size", -1, r"text\.vocab_size: got -1, expected at least 1\."),
        ("vision.patch_size", 15, r"vision\.patch_size: got 15, expected a divisor of .* = 224\."),
        ("vision.num_heads", 7, r"vision\.num_heads: got 7, expected a divisor of .* = 768\."),
        ("text.num_heads", 3, r"text\.num_heads: got 3, expected a divisor of .* = 512\."),
        ("activation", "quickgelu", r"activation: got 'quickgelu', .* Did you mean 'quick_gelu'\?"),
        ("initial_logit_scale", 0.0, r"initial_logit_scale: got 0\.0, expected a finite number"),
        ("pixel_mean", (0.5, 0.5, math.nan), r"pixel_mean: got .*nan.*, expected three finite"),
        ("pixel_std", (0.5, 0.5, 0.0), r"pixel_std: got .*0\.0.*, expected three finite"),
    ],
)
def test_validate_names_the_field(path, value, message):
    config = ClipConfig()
    config.validate()
    *parents, name = path.split(".")
    owner = config
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, value)
    with pytest.raises(ConfigError, match=message):
        config.validate()


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
    "text.vocab_size": 12,
    "text.context_length": 7,
    "text.width": 32,
    "text.num_layers": 2,
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
