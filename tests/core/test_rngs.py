"""Keys depend on the seed, the step and the name, and on nothing else."""

import itertools

import jax
import jax.numpy as jnp

from calib_jax.core import rngs


def bits(key):
    return tuple(jax.random.key_data(key).tolist())


def test_the_same_arguments_give_the_same_key():
    assert bits(rngs.key(3, 7, "crop")) == bits(rngs.key(3, 7, "crop"))


def test_every_argument_changes_the_key():
    arguments = itertools.product((0, 1), (0, 1, 2), ("encoder", "classifier"))
    assert len({bits(rngs.key(*each)) for each in arguments}) == 12


def test_a_traced_step_gives_the_key_of_the_number():
    traced = jax.jit(lambda step: jax.random.key_data(rngs.key(3, step, "crop")))(jnp.int32(7))
    assert tuple(traced.tolist()) == bits(rngs.key(3, 7, "crop"))
