"""A tiny ViT, a tiny ResNet, and archives as torch writes them."""

import collections
import io
import pickle
import sys
import types
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.models import presets
from calib_jax.models.config import ResNetConfig, VisionConfig
from calib_jax.models.encoder import Encoder


def filled(config):
    """Parameters of any numbers: drawing them under jit takes seconds to compile."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(Encoder(config).init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)


def tiny():
    return presets.tiny(
        vocab_size=20, context_length=8, image_size=16, width=64, num_layers=2, embed_dim=32
    )


@pytest.fixture(scope="session")
def vit():
    """(config, params): heads of width / 64, MLPs of 4 x width, as OpenAI's naming implies."""
    config = tiny()
    return config, filled(config)


@pytest.fixture(scope="session")
def odd_vit():
    """(config, params): what only a config file can tell."""
    config = tiny()
    config.activation = "gelu"
    config.vision = VisionConfig(
        image_size=16, patch_size=4, width=48, num_layers=1, num_heads=3, mlp_ratio=2.0
    )
    config.text.num_heads, config.text.mlp_ratio = 4, 1.5
    config.pixel_mean, config.pixel_std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    return config, filled(config)


@pytest.fixture(scope="session")
def resnet():
    """(config, params): two blocks in the second stage, one in the others."""
    config = tiny()
    config.vision = ResNetConfig(image_size=64, width=4, num_blocks=(1, 2, 1, 1), num_heads=2)
    return config, filled(config)


@pytest.fixture
def assert_same():
    """A function that passes when two trees of arrays are equal bit for bit."""

    def check(a, b):
        assert jax.tree.structure(a) == jax.tree.structure(b)
        jax.tree.map(np.testing.assert_array_equal, a, b)

    return check


class Storage:
    """What torch's pickler replaces by a persistent id."""

    def __init__(self, kind, key, size):
        self.pid = ("storage", kind, key, "cpu", size)


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Storage) else None


class Called:
    """Pickled as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


STORAGES = {
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
}


class Torch:
    """As much of torch as a pickle names, and archives of the layout that `torch.save` writes."""

    called, storage = Called, Storage

    def __init__(self, monkeypatch):
        def stand_in(module, name, kind):
            made = kind(name)
            made.__module__, made.__qualname__ = module, name
            home = sys.modules.get(module) or types.ModuleType(module)
            setattr(home, name, made)
            monkeypatch.setitem(sys.modules, module, home)
            top = module.split(".")[0]
            monkeypatch.setitem(sys.modules, top, sys.modules.get(top) or types.ModuleType(top))
            return made

        def function(name):
            def made(*_):
                raise AssertionError(f"{name} was called")

            made.__name__ = name
            return made

        def cls(name):
            return type(name, (), {})

        self.function = lambda module, name: stand_in(module, name, function)
        self.cls = lambda module, name: stand_in(module, name, cls)
        self.rebuild = self.function("torch._utils", "_rebuild_tensor_v2")
        self.parameter = self.function("torch._utils", "_rebuild_parameter")
        self.kinds = {k: self.cls("torch", name) for k, name in STORAGES.items()}

    def tensor(self, key, x, *, strides=None, offset=0, shape=None, size=None, properties=None):
        """A tensor in the storage `key`, whose numbers go into the archive.

        `properties` is what torch adds for a lazily negated or conjugated tensor.
        """
        size = x.size if size is None else size
        strides = tuple(s // x.itemsize for s in x.strides) if strides is None else strides
        shape = x.shape if shape is None else shape
        storage = Storage(self.kinds[x.dtype.name], key, size)
        hooks = collections.OrderedDict()
        further = () if properties is None else (properties,)
        return Called(self.rebuild, storage, offset, shape, strides, False, hooks, *further)

    def save(self, path, content, storages, *, byteorder=b"little"):
        stream = io.BytesIO()
        Pickler(stream, 2).dump(content)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", stream.getvalue())
            if byteorder:
                archive.writestr("model/byteorder", byteorder)
            for key, x in storages.items():
                archive.writestr(f"model/data/{key}", x.tobytes())
        return path

    def save_table(self, path, tensors):
        """What `torch.save(state_dict)` writes."""
        storages = {str(i): x for i, x in enumerate(tensors.values())}
        table = collections.OrderedDict(
            (name, self.tensor(str(i), x)) for i, (name, x) in enumerate(tensors.items())
        )
        return self.save(path, table, storages)


@pytest.fixture
def torch(monkeypatch):
    """The stand-in for torch (see `Torch`); the library under test never imports it."""
    return Torch(monkeypatch)
