import dataclasses
import gc
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.core.errors import CheckpointError
from calib_jax.core.sharding import make_mesh
from calib_jax.optim.optimizers import AdamW, make_optimizer
from calib_jax.optim.teacher import EmaTeacher
from calib_jax.training.checkpoints import Checkpoints, checksums
from calib_jax.training.state import abstract_state, create_state

# What Orbax leaves behind when one of its reading tasks fails.
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited:RuntimeWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

ITERATOR = {"last_seen": 17, "nested": {"names": ["a", "b"], "done": False}}


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Collects it before the next test, which must not ignore such warnings."""
    yield
    gc.collect()


def params():
    rng = np.random.default_rng(0)
    return {
        "encoder": {
            "kernel": jnp.asarray(rng.normal(size=(64, 40)), jnp.float32),
            "bias": jnp.asarray(rng.normal(size=7), jnp.float32),
            "half": jnp.asarray(rng.normal(size=(3, 4)), jnp.bfloat16),
            "logit_scale": jnp.float32(4.6),
        },
        "classifier": {},
    }


def optimizer(tree):
    return make_optimizer(
        AdamW(), tree, num_steps=1000, trainable=(".*",), teacher=EmaTeacher(update_every=2)
    )


def trained_state(mesh, steps=3):
    """A state in which moments, counts and the teacher are numbers of their own."""
    tree = params()
    tx = optimizer(tree)
    state = create_state(tree, tx, mesh)
    gradient = jax.tree.map(lambda x: 0.1 * x, tree)
    for _ in range(steps):
        updates, opt_state = jax.jit(tx.update)(gradient, state.opt_state, state.params)
        moved = jax.tree.map(lambda x, u: (x + u).astype(x.dtype), state.params, updates)
        state = dataclasses.replace(state, step=state.step + 1, params=moved, opt_state=opt_state)
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(tree, tx, mesh))
    return jax.device_put(state, shardings)


def target(mesh):
    tree = params()
    return abstract_state(tree, optimizer(tree), mesh)


def save(directory, states):
    checkpoints = Checkpoints(directory)
    for step, state in states.items():
        checkpoints.save(step, state, ITERATOR)
    checkpoints.close()


def restore(directory, mesh, step=None):
    checkpoints = Checkpoints(directory)
    try:
        return checkpoints.restore(
            checkpoints.latest_step() if step is None else step, target(mesh)
        )
    finally:
        checkpoints.close()


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture(scope="module")
def one():
    return make_mesh(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def state(one):
    return trained_state(one)


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "checkpoints"
    save(directory, {3: state})
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoints")


def test_restored_bit_for_bit(saved, state, one):
    restored, iterator = restore(saved, one)
    assert_same(restored, state)
    assert int(restored.step) == 3
    assert iterator == ITERATOR


@pytest.mark.parametrize("fsdp", [1, 4])
def test_restored_onto_another_mesh(tmp_path, fsdp, one, state):
    eight = make_mesh(fsdp=fsdp)
    spread = trained_state(eight)
    assert_same(spread, state)
    kernel = spread.params["encoder"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (64, 40 // fsdp)
    save(tmp_path, {3: spread})
    for mesh in (one, eight):
        restored, _ = restore(tmp_path, mesh)
        assert_same(restored, state)
        for leaf, wanted in zip(
            jax.tree.leaves(restored), jax.tree.leaves(target(mesh)), strict=True
        ):
            assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)


def test_checksums_do_not_depend_on_the_sharding(state):
    expected = checksums(state)
    for fsdp in (1, 4, 8):
        mesh = make_mesh(fsdp=fsdp)
        shardings = jax.tree.map(lambda x: x.sharding, target(mesh))
        assert checksums(jax.device_put(state, shardings)) == expected


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.int32, np.uint8, np.bool_])
def test_every_bit_counts(dtype):
    rng = np.random.default_rng(0)
    array = np.asarray(rng.normal(0, 100, (3, 5))).astype(dtype)
    if dtype == np.bool_:
        flipped = np.stack([array ^ (np.arange(15).reshape(3, 5) == i) for i in range(15)])
    else:
        raw = np.frombuffer(array.tobytes(), np.uint8)
        masks = np.eye(8 * raw.size, dtype=np.uint8)
        bits = np.packbits(masks, axis=1)
        flipped = (raw ^ bits).view(dtype).reshape(-1, 3, 5)
    trees = {"original": jnp.asarray(array)} | {
        str(i): jnp.asarray(x) for i, x in enumerate(flipped)
    }
    sums = checksums(trees)
    original = sums.pop("original")
    assert original not in sums.values()


def test_swapped_values_change_the_checksum():
    a, b = (checksums({"x": jnp.asarray(x)})["x"] for x in ([1.0, 2.0, 3.0], [2.0, 1.0, 3.0]))
    assert a != b


def test_checksums_compile_nothing(state):
    programs = []

    def listen(event, seconds, **_):
        programs.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        checksums(state)
        jax.jit(lambda x: x + 5)(jnp.float32(1))  # the listener hears it
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert programs.count("/jax/core/compile/backend_compile_duration") == 1


def outcome(directory, mesh, state):
    """`error`, or `intact` where the damage is in a byte that holds nothing of ours."""
    try:
        restored, iterator = restore(directory, mesh)
    except CheckpointError as error:
        assert f"checkpoint {directory.absolute() / '3'}: " in str(error)
        assert "\n" not in str(error)
        return "error"
    assert_same(restored, state)
    assert iterator == ITERATOR
    return "intact"


def test_a_flipped_byte_never_gets_through(copy, one, state):
    """Everywhere: an error or, in bytes that nothing reads, the very state that was saved."""
    outcomes = {}
    for path in sorted(path for path in copy.rglob("*") if path.is_file()):
        content = path.read_bytes()
        num_positions = 24 if len(content) > 5000 else 4
        for position in np.unique(np.linspace(0, len(content) - 1, num_positions).astype(int)):
            damaged = bytearray(content)
            damaged[position] ^= 0x10
            path.write_bytes(damaged)
            outcomes.setdefault(str(path.relative_to(copy / "3")), []).append(
                outcome(copy, one, state)
            )
        path.write_bytes(content)
    assert outcome(copy, one, state) == "intact"
    # The arrays, their index and our own checksums are all guarded.
    for name, found in outcomes.items():
        if name.startswith("state/d/") or name in ("state/manifest.ocdbt", "meta/metadata"):
            assert set(found) == {"error"}, name
    assert any(name.startswith("state/d/") for name in outcomes)


@pytest.mark.parametrize("cut", ["half", "empty", "deleted"])
def test_missing_content_is_an_error(saved, tmp_path, one, state, cut):
    files = [path for path in (saved / "3/state").glob("d/*")]
    files += [
        saved / "3/state/manifest.ocdbt",
        saved / "3/state/_METADATA",
        saved / "3/meta/metadata",
    ]
    for number, path in enumerate(files):
        damaged = shutil.copytree(saved, tmp_path / str(number))
        victim = damaged / path.relative_to(saved)
        content = victim.read_bytes()
        victim.unlink() if cut == "deleted" else victim.write_bytes(
            content[: len(content) // 2 if cut == "half" else 0]
        )
        assert outcome(damaged, one, state) == "error", path.name


def test_the_error_names_what_is_damaged(copy, one):
    path = copy / "3/meta/metadata"
    meta = json.loads(path.read_text())
    whole = json.dumps(meta)

    def message_with(change):
        changed = json.loads(whole)
        change(changed)
        path.write_text(json.dumps(changed))
        with pytest.raises(CheckpointError) as error:
            restore(copy, one)
        return str(error.value)

    def shift(meta):
        meta["checksums"]["params/encoder/kernel"] += 1

    advice = rf"Delete {copy / '3'} to go on from the checkpoint before it."
    message = message_with(shift)
    assert "1 of its arrays differ from their checksums, first 'params/encoder/kernel'" in message
    assert message.endswith(advice)
    message = message_with(lambda meta: meta["iterator"].update(last_seen=18))
    assert "first 'the data iterator': the files are damaged" in message
    message = message_with(lambda meta: meta.pop("checksums"))
    assert "cannot be read: 'checksums'" in message
    earlier = (
        f"checkpoint {copy / '3'}: got format 1, expected 2: another version of calib_jax "
        "wrote it. Go on with that version, or train anew in another workdir."
    )
    assert message_with(lambda meta: meta.pop("format")) == earlier


def test_an_empty_newer_step_is_an_error(copy, one):
    (copy / "7").mkdir()
    with pytest.raises(
        CheckpointError, match=r"checkpoint .*7: cannot be read: .*Delete .*7 to go"
    ):
        restore(copy, one)
    (copy / "7").rmdir()
    assert int(restore(copy, one)[0].step) == 3


def test_an_existing_step_is_not_overwritten(copy, state):
    checkpoints = Checkpoints(copy)
    with pytest.raises(CheckpointError, match=r"checkpoint .*3: not written, because it exists"):
        checkpoints.save(3, state, {})
    checkpoints.close()


def test_another_model_is_an_error(saved, one):
    tree = params()
    tree["encoder"]["kernel"] = jnp.zeros((64, 48))
    checkpoints = Checkpoints(saved)
    with pytest.raises(CheckpointError, match="checkpoint .*3: "):
        checkpoints.restore(3, abstract_state(tree, optimizer(tree), one))
    checkpoints.close()


def test_only_the_newest_are_kept(tmp_path, state):
    checkpoints = Checkpoints(tmp_path / "new", max_to_keep=2)
    assert checkpoints.latest_step() is None
    for step in (1, 2, 5):
        checkpoints.save(step, state, ITERATOR)
    checkpoints.close()
    reopened = Checkpoints(tmp_path / "new")
    assert reopened.latest_step() == 5
    reopened.close()
    assert sorted(path.name for path in (tmp_path / "new").iterdir() if path.is_dir()) == ["2", "5"]
