import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from calib_jax.core.errors import ConfigError, WeightsError
from calib_jax.models import presets
from calib_jax.models.encoder import Encoder
from calib_jax.models.weights.openai import from_openai, read_openai, to_openai


@pytest.fixture(scope="module")
def config():
    return presets.tiny(
        vocab_size=20, context_length=8, image_size=16, width=64, num_layers=2, embed_dim=32
    )


@pytest.fixture(scope="module")
def params(config):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(Encoder(config).init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)


@pytest.fixture
def state_dict(config, params):
    return to_openai(config, params)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_golden_model(shared):
    folder = shared / "golden" / "openai_tiny_vit"
    expected = np.load(folder / "expected.npz")
    config, params = read_openai(folder / "model.safetensors")
    encoder = Encoder(config)
    image = jax.jit(encoder.encode_image)(params, jnp.asarray(expected["images_uint8"]))
    text = jax.jit(encoder.encode_text)(params, jnp.asarray(expected["tokens"], jnp.int32))
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(image, expected["image_features"], **tolerance)
    np.testing.assert_allclose(text, expected["text_features"], **tolerance)
    image /= np.linalg.norm(image, axis=-1, keepdims=True)
    text /= np.linalg.norm(text, axis=-1, keepdims=True)
    np.testing.assert_allclose(image, expected["image_emb"], **tolerance)
    np.testing.assert_allclose(text, expected["text_emb"], **tolerance)
    scale = encoder.logit_scale(params)
    np.testing.assert_allclose(scale, expected["logit_scale"], rtol=1e-6)
    np.testing.assert_allclose(scale * image @ text.T, expected["logits_per_image"], **tolerance)


def test_golden_round_trip_is_bit_exact(shared):
    path = shared / "golden" / "openai_tiny_vit" / "model.safetensors"
    source = safetensors.numpy.load_file(path)
    same(to_openai(*read_openai(path)), source)


def test_golden_resnet_is_refused(shared):
    path = shared / "golden" / "openai_tiny_rn" / "model.safetensors"
    with pytest.raises(WeightsError, match="got a ModifiedResNet, expected a ViT; only ViT"):
        read_openai(path)


def test_round_trip_is_bit_exact(config, params, state_dict):
    again_config, again = from_openai(state_dict)
    assert again_config == config
    same(again, params)


def test_queries_keys_and_values_keep_their_order(params, state_dict):
    weight = state_dict["visual.transformer.resblocks.1.attn.in_proj_weight"]
    attention = params["image"]["block_1"]["attention"]
    for i, name in enumerate(("query", "key", "value")):
        np.testing.assert_array_equal(weight[64 * i : 64 * (i + 1)], attention[name]["kernel"].T)


def test_parameters_do_not_alias_the_source(state_dict, params):
    _, loaded = from_openai(state_dict)
    for x in state_dict.values():
        x[...] = 0
    same(loaded, params)


def test_buffers_are_ignored_and_halves_widened(tmp_path, config, state_dict):
    half = {name: x.astype(np.float16) for name, x in state_dict.items()}
    buffers = {name: np.int64(1) for name in ("input_resolution", "context_length", "vocab_size")}
    path = tmp_path / "half.safetensors"
    safetensors.numpy.save_file(half | {k: np.asarray(v) for k, v in buffers.items()}, path)
    got_config, got = read_openai(path, activation="gelu")
    assert got_config.activation == "gelu"
    assert {x.dtype for x in jax.tree.leaves(got)} == {jnp.dtype("float32")}
    same(to_openai(got_config, got), {name: x.astype(np.float32) for name, x in half.items()})


def test_bfloat16_is_widened(state_dict):
    half = {name: x.astype(jnp.bfloat16) for name, x in state_dict.items()}
    same(to_openai(*from_openai(half)), {name: x.astype(np.float32) for name, x in half.items()})


def test_all_problems_are_reported_at_once(state_dict):
    del state_dict["visual.proj"]
    del state_dict["transformer.resblocks.0.ln_1.bias"]
    state_dict["extra"] = np.zeros(3, np.float32)
    state_dict["ln_final.weight"] = np.zeros(65, np.float32)
    state_dict["ln_final.bias"] = np.full(64, np.nan, np.float32)
    state_dict["visual.ln_post.bias"] = np.zeros(64, np.int32)
    with pytest.raises(WeightsError) as error:
        from_openai(state_dict)
    message = str(error.value)
    assert message.startswith("state dict: got 6 problem(s): ")
    for problem in (
        "visual.proj is missing",
        "transformer.resblocks.0.ln_1.bias is missing",
        "extra is unknown",
        "ln_final.weight has shape (65,), not (64,)",
        "ln_final.bias holds NaN or infinity",
        "visual.ln_post.bias is int32, not floating-point",
    ):
        assert problem in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("visual.conv1.weight", None, r"visual\.conv1\.weight is missing"),
        ("text_projection", np.zeros(4), r"text_projection has shape \(4,\), not 2 axes"),
        ("token_embedding.weight", np.zeros((0, 64)), r"\(0, 64\), not 2 axes that are not empty"),
        ("visual.positional_embedding", np.zeros((6, 64)), r"has 6 rows, not 1 \+ a square number"),
        ("visual.conv1.weight", np.zeros((60, 3, 8, 8)), r"has width 60, not a multiple of 64"),
        ("visual.conv1.weight", np.zeros((64, 4, 8, 8)), r"\(64, 4, 8, 8\), not \(64, 3, 8, 8\)"),
        ("logit_scale", np.zeros(1), r"logit_scale has shape \(1,\), not \(\)"),
    ],
)
def test_wrong_sizes_are_named(state_dict, name, value, message):
    del state_dict[name]
    if value is not None:
        state_dict[name] = value
    with pytest.raises(WeightsError, match=message):
        from_openai(state_dict)


def test_a_tower_without_blocks_is_named(state_dict):
    cut = {k: x for k, x in state_dict.items() if not k.startswith("transformer.resblocks")}
    with pytest.raises(WeightsError, match=r"transformer\.resblocks\.\* has no block"):
        from_openai(cut)


def test_a_gap_in_the_blocks_is_named(state_dict):
    part = "visual.transformer.resblocks.0."
    cut = {name: x for name, x in state_dict.items() if not name.startswith(part)}
    with pytest.raises(WeightsError, match=rf"12 problem.*{part}ln_1\.weight is missing"):
        from_openai(cut)


@pytest.mark.parametrize("names", [["text_model.embeddings.weight"], []])
def test_another_naming_is_one_problem(names):
    with pytest.raises(WeightsError, match=r"got names like '.*', expected OpenAI's, like"):
        from_openai({name: np.zeros(2, np.float32) for name in names})


def test_an_unknown_activation_is_a_config_error(state_dict):
    with pytest.raises(ConfigError, match="activation: got 'relu'"):
        from_openai(state_dict, activation="relu")


def test_files_that_cannot_be_read(tmp_path, state_dict):
    path = tmp_path / "model.safetensors"
    with pytest.raises(WeightsError, match=r"got no file at .*model\.safetensors, expected"):
        read_openai(path)
    safetensors.numpy.save_file(state_dict, path)
    path.write_bytes(path.read_bytes()[:-100])
    message = r"model\.safetensors, which is damaged or not safetensors .*Download it again"
    with pytest.raises(WeightsError, match=message):
        read_openai(str(path))
    path.write_bytes(b"PK\x03\x04 a zip archive of torch")
    with pytest.raises(WeightsError, match=message):
        read_openai(path)
    pickle = tmp_path / "ViT-B-32.pt"
    pickle.write_bytes(b"PK\x03\x04")
    with pytest.raises(WeightsError, match=r"got .*ViT-B-32\.pt, .*only ViT safetensors are read"):
        read_openai(pickle)


def test_only_openais_heads_can_be_exported(params):
    config = presets.tiny(vocab_size=20, context_length=8, image_size=16, embed_dim=32)
    config.vision.num_heads = 4
    with pytest.raises(WeightsError, match=r"vision\.num_heads: got 4, expected .* / 64 = 2, "):
        to_openai(config, params)


def test_params_of_another_config_are_not_exported(config, params):
    others = {"image": params["image"], "logit_scale": jnp.zeros(2), "head": jnp.zeros(2)}
    with pytest.raises(WeightsError) as error:
        to_openai(config, others)
    for problem in (
        "params: got ",
        "text/token_embedding is missing",
        "head is unknown",
        "logit_scale has shape (2,), not ()",
        "Pass the config they were made with.",
    ):
        assert problem in str(error.value)
