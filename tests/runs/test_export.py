"""An export under flipped bits and in the hands of users: read as it was written, or one line."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.classifiers import stored
from calib_jax.classifiers.head import LinearMap
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.errors import CalibJaxError
from calib_jax.core.sharding import make_mesh
from calib_jax.data.tokenizers import read_tokenizer, tokenize
from calib_jax.models.weights.load import read_model
from calib_jax.runs.export import Exporter
from calib_jax.runs.texts import read_texts

FILES = (
    "model.safetensors",
    "classifier.safetensors",
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "SHA256SUMS",
)
TEXTS = ("a photo of red.", "a photo of dark blue.")


@pytest.fixture(scope="module")
def exported(tiny_experiment, drawn_params, tmp_path_factory):
    """The folder of an exported model and its classifier."""
    folder = tmp_path_factory.mktemp("exports") / "carot"
    texts = read_texts(tiny_experiment(), make_mesh())
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
    params = {"encoder": drawn_params(texts.encoder), "classifier": {}}
    exporter = Exporter(texts.encoder, texts.tokenizer, ("red", "green", "dark blue"))
    exporter.write(folder, params, LinearMap(kernel=kernel, bias=jnp.arange(3.0)))
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    """A copy, as `cp -r` makes it."""
    return shutil.copytree(exported, tmp_path / "copy")


def read(folder):
    """All that our readers make of it."""
    tokenizer = read_tokenizer(folder)
    model = read_model(str(folder))
    head, class_names = stored.read_head(folder / "classifier.safetensors")
    return {
        "config": (model.config, model.eot, class_names),
        "tokens": tokenize(tokenizer, TEXTS, context_length=8),
        "arrays": [np.asarray(x) for x in jax.tree.leaves((model.params, head))],
    }


def is_same(found, expected):
    return (
        found["config"] == expected["config"]
        and np.array_equal(found["tokens"], expected["tokens"])
        and all(map(np.array_equal, found["arrays"], expected["arrays"]))
    )


def flipped(content, rng):
    """One bit is another."""
    changed = bytearray(content)
    position = int(rng.integers(len(changed)))
    changed[position] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def outcomes(folder, name, number, expected):
    """How many flips of a file were refused, read as before, and read as something else."""
    rng, path = np.random.default_rng(number), folder / name
    content, counts = path.read_bytes(), {"refused": 0, "same": 0, "other": 0}
    for _ in range(number):
        path.write_bytes(flipped(content, rng))
        try:
            found = read(folder)
        except CalibJaxError as error:
            assert "\n" not in str(error), error
            counts["refused"] += 1
        else:
            counts["same" if is_same(found, expected) else "other"] += 1
    path.write_bytes(content)
    return counts


@pytest.mark.parametrize("name", FILES)
def test_no_flip_changes_a_number(folder, name, number=100):
    found = outcomes(folder, name, number, read(folder))
    assert found["other"] == 0
    if name != "SHA256SUMS":  # where a flip may hide a line
        assert found["refused"] == number


@pytest.mark.many
@pytest.mark.parametrize("name", FILES)
def test_no_flip_of_many_changes_a_number(folder, name):
    test_no_flip_changes_a_number(folder, name, 400)


@pytest.mark.parametrize("name", FILES[:-1])
def test_without_checksums_no_flip_ends_in_a_stack_trace(folder, name, number=100):
    """What cannot be told apart is read as something else: hence the checksums."""
    expected = read(folder)
    (folder / "SHA256SUMS").unlink()
    found = outcomes(folder, name, number, expected)
    assert sum(found.values()) == number
    # Of a tokenizer of words its configuration is for others.
    assert found["refused"] > 0 or name == "tokenizer_config.json"


@pytest.mark.many
@pytest.mark.parametrize("name", FILES[:-1])
def test_without_checksums_no_flip_of_many_ends_in_a_stack_trace(folder, name):
    test_without_checksums_no_flip_ends_in_a_stack_trace(folder, name, 400)


class Fixed(ZeroShot):
    """A head that costs nothing to make."""

    made = 0

    def head(self, *_):
        type(self).made += 1
        kernel = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
        return LinearMap(kernel=kernel, bias=jnp.arange(3.0))


def check_kept_heads(folder, model, tokens, number):
    encoder, params = model
    tree = {"encoder": {"text": {}, "logit_scale": params["logit_scale"]}, "classifier": {}}

    def head():
        return jax.tree.leaves(stored.kept_head(folder, Fixed(), encoder, tree, tokens))

    expected, rng = head(), np.random.default_rng(number)
    (path,) = folder.glob("*.safetensors")
    content = path.read_bytes()
    for _ in range(number):
        path.write_bytes(flipped(content, rng))
        before = Fixed.made
        assert all(map(np.array_equal, head(), expected))
        assert Fixed.made == before + 1
        assert path.read_bytes() == content
    assert all(map(np.array_equal, head(), expected))
    assert Fixed.made == before + 1
    assert list(folder.iterdir()) == [path]


def test_a_damaged_kept_head_is_made_again(tiny_model, tiny_batches, tmp_path):
    check_kept_heads(tmp_path, tiny_model, tiny_batches[0].class_tokens, 100)


@pytest.mark.many
def test_many_damaged_kept_heads_are_made_again(tiny_model, tiny_batches, tmp_path):
    check_kept_heads(tmp_path, tiny_model, tiny_batches[0].class_tokens, 400)


def edit(path):
    path.write_text(path.read_text().replace('"quick_gelu"', '"gelu"'))


def test_an_edited_file_is_named_and_taken_without_its_line(folder):
    edit(folder / "config.json")
    message = r"config\.json: got another content .* delete its line in SHA256SUMS\.$"
    with pytest.raises(CalibJaxError, match=message):
        read(folder)
    manifest = folder / "SHA256SUMS"
    lines = [x for x in manifest.read_text().splitlines() if not x.endswith("  config.json")]
    manifest.write_text("\r\n".join(lines))
    assert read(folder)["config"][0].activation == "gelu"
    # The other files are checked as before.
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(CalibJaxError, match=r"model\.safetensors: got another content"):
        read(folder)


def test_what_users_do_with_a_folder(folder, exported, tmp_path, caplog):
    expected = read(exported)
    (folder / "notes.txt").write_text("mine")
    (folder / "README.md").write_text("# Of the third run")
    renamed = folder.rename(tmp_path / "a [new] name=0.1")
    renamed.chmod(0o555)
    assert is_same(read(renamed), expected)
    renamed.chmod(0o755)
    (renamed / "notes.txt").write_text("mine, edited")
    assert is_same(read(renamed), expected)
    assert not caplog.messages
    (renamed / "SHA256SUMS").unlink()
    assert is_same(read(renamed), expected)
    assert caplog.messages == [f"{renamed} has no SHA256SUMS: its files are taken as they are"]
