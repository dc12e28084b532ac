"""The README's method of your own, as it stands there."""

import dataclasses
import pathlib
import re

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from calib_jax.methods.method import Method
from calib_jax.methods.robust import flyp
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"


def test_the_example_is_a_method_in_ten_lines(views_of):
    example = re.search(r"<!-- example -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)[1]
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    names = {"dataclasses": dataclasses, "jnp": jnp, "Array": Array, "Float": Float}
    names |= {"Method": Method, "flyp": flyp, "Term": Term, "Views": Views}
    exec(compile(example, str(README), "exec"), names)
    method = names["small_features"](learning_rate=1e-3, warmup_steps=1)
    method.validate("methods.mine", num_steps=10)
    assert list(method.terms) == ["contrastive", "small_features"]
    features = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    value = method.terms["small_features"](views_of(3, image_features=jnp.asarray(features)))
    np.testing.assert_allclose(value, (features**2).sum(axis=1), rtol=1e-6)
