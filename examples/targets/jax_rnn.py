"""A vanilla RNN in JAX, whose tanh has a derivative rule of its own.

throughtime check jax_rnn.py:target
"""

import jax
import jax.numpy as jnp

import throughtime as tt


@jax.custom_vjp
def squash(z):
    """tanh, with a rule that takes the derivative from the activated value."""
    return jnp.tanh(z)


def squash_forward(z):
    y = jnp.tanh(z)
    return y, y


def squash_backward(y, dy):
    return (dy * (1 - y**2),)


squash.defvjp(squash_forward, squash_backward)


def loss(parameters, xs):
    """The squared outputs of all steps, as terms."""

    def step(h, x):
        h = squash(parameters["W"] @ x + parameters["U"] @ h)
        return h, jnp.sum((parameters["V"] @ h) ** 2)

    return jax.lax.scan(step, jnp.zeros(4), xs)[1]


def target():
    """At random parameters and inputs, in float32."""
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = {"W": (4, 3), "U": (4, 4), "V": (2, 4)}
    drawn = {
        n: jax.random.normal(k, s) / 2 for k, (n, s) in zip(keys[:3], shapes.items(), strict=True)
    }
    return tt.target_of(loss, drawn, jax.random.normal(keys[3], (12, 3)), steps=12)
