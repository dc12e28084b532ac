"""The method of your own, as it stands in docs/methods.md."""

import pathlib
import re

import jax.numpy as jnp
import numpy as np

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "methods.md"


def test_the_example_is_a_method_in_ten_lines(views_of):
    page, names = PAGE.read_text(), {}
    for mark, most in (("imports", 7), ("example", 10)):
        code = re.search(rf"<!-- {mark} -->\n```python\n(.*?)```", page, re.DOTALL)[1]
        assert len([line for line in code.splitlines() if line.strip()]) <= most
        exec(compile(code, str(PAGE), "exec"), names)
    method = names["small_features"]().scheduled(learning_rate=1e-3, warmup_steps=1)
    method.validate("methods.mine", num_steps=10)
    assert list(method.terms) == ["contrastive", "small_features"]
    features = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    value = method.terms["small_features"](views_of(3, image_features=jnp.asarray(features)))
    np.testing.assert_allclose(value, (features**2).sum(axis=1), rtol=1e-6)
