import numpy as np
import pytest
import safetensors.numpy

from calib_jax.core.errors import WeightsError
from calib_jax.models import presets
from calib_jax.models.weights import openai, table


def sizes(tensors):
    return openai.sizes(tensors, activation="gelu", origin="file")


def empty(config):
    """Tensors of the shapes of a model, without memory."""
    shapes = table.shapes_of(config)
    rows = openai.rows(config)
    return {row.source: np.broadcast_to(np.float32(0), row.source_shape(shapes)) for row in rows}


@pytest.fixture
def tensors(vit):
    config, params = vit
    return table.store(config, params, openai.rows(config))


@pytest.mark.parametrize(
    ("name", "num_tensors"),  # of the original implementations' state dicts
    [("vit_l14", 446), ("rn50", 489)],
)
def test_full_size_models(name, num_tensors):
    config = getattr(presets, name)()
    rows = openai.rows(config)
    assert len({row.source for row in rows}) == len(rows)
    assert len(rows) + len(openai.counters(config)) == num_tensors
    shapes = table.shapes_of(config)
    assert sorted(path for row in rows for path in row.ours) == sorted(shapes)
    found = openai.sizes(empty(config), activation="quick_gelu", origin="file")
    assert found == config


@pytest.mark.parametrize("model", ["vit", "resnet"])
def test_golden_names(request, golden_dir, model):
    folder = "openai_tiny_rn" if model == "resnet" else "openai_tiny_vit"
    golden = safetensors.numpy.load_file(golden_dir / folder / "model.safetensors")
    config = sizes(golden)
    names = {row.source for row in openai.rows(config)} | openai.counters(config).keys()
    assert names == golden.keys()
    assert type(config.vision) is type(request.getfixturevalue(model)[0].vision)


def test_queries_keys_and_values_keep_their_order(vit, tensors):
    weight = tensors["visual.transformer.resblocks.1.attn.in_proj_weight"]
    attention = vit[1]["image"]["block_1"]["attention"]
    for i, name in enumerate(("query", "key", "value")):
        np.testing.assert_array_equal(weight[64 * i : 64 * (i + 1)], attention[name]["kernel"].T)


def test_counters_stand_beside_each_batch_norm(resnet):
    config, _ = resnet
    counters = openai.counters(config)
    assert len(counters) == 3 + 3 * 5 + 4
    assert {x.dtype for x in counters.values()} == {np.dtype("int64")}
    assert all(openai.IGNORED.fullmatch(name) for name in counters)
    rows = {row.source for row in openai.rows(config)}
    norms = {name.removesuffix(".running_mean") for name in rows if name.endswith("running_mean")}
    assert {name.removesuffix(".num_batches_tracked") for name in counters} == norms


@pytest.mark.parametrize("width", [1280, 1408, 1664, 1792])
def test_the_heads_of_open_clips_giants(width):
    config = presets.tiny(vocab_size=20, context_length=8, width=width, num_layers=1)
    config.vision.num_heads = 16
    config.activation = "gelu"
    assert sizes(empty(config)) == config


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("visual.conv1.weight", None, r"1 problem\(s\): visual\.conv1\.weight is missing, "),
        ("text_projection", np.zeros(4), r"text_projection has shape \(4,\), not 2 axes"),
        ("token_embedding.weight", np.zeros((0, 64)), r"\(0, 64\), not 2 axes that are not empty"),
        ("visual.positional_embedding", np.zeros((6, 64)), r"has 6 rows, not 1 \+ a square number"),
        ("visual.positional_embedding", np.zeros((1, 64)), r"has 1 rows, not 1 \+ a square number"),
        ("visual.conv1.weight", np.zeros((60, 3, 8, 8)), r"has width 60, not a multiple of 64"),
        ("token_embedding.weight", np.zeros((20, 63)), r"has width 63, not a multiple of 64"),
    ],
)
def test_wrong_sizes_are_named(tensors, name, value, message):
    del tensors[name]
    if value is not None:
        tensors[name] = value
    with pytest.raises(WeightsError, match=message):
        sizes(tensors)


def test_an_odd_width_of_a_resnet_is_named(resnet):
    config, params = resnet
    tensors = table.store(config, params, openai.rows(config))
    tensors["visual.layer1.0.conv1.weight"] = np.zeros((3, 4, 1, 1))
    with pytest.raises(WeightsError, match=r"conv1\.weight has width 3, not a multiple of 2 "):
        sizes(tensors)


def test_what_is_missing_is_listed_beside_wrong_sizes(tensors):
    del tensors["visual.proj"], tensors["token_embedding.weight"]
    tensors["text_projection"] = np.zeros(4, np.float32)
    tensors["head"] = np.zeros(4, np.float32)
    with pytest.raises(WeightsError) as caught:
        sizes(tensors)
    for problem in (
        "file: got 4 problem(s): text_projection has shape (4,)",
        "visual.proj is missing",
        "token_embedding.weight is missing",
        "head is unknown",
    ):
        assert problem in str(caught.value)


def test_a_tower_without_blocks_lacks_the_first(tensors):
    cut = {k: x for k, x in tensors.items() if not k.startswith("transformer.resblocks")}
    with pytest.raises(WeightsError, match=r"12 problem.*transformer\.resblocks\.0\.ln_1\.weight"):
        sizes(cut)


@pytest.mark.parametrize("names", [["model.embeddings.weight"], []])
def test_another_naming_is_one_problem(names):
    with pytest.raises(WeightsError, match=r"file: got names like '.*', expected OpenAI's, like"):
        sizes({name: np.zeros(2, np.float32) for name in names})
