"""The Vision Transformer in JAX, jitted as one function, under timm's names. Needs jax."""

import os

import jax
import jax.numpy as jnp
import numpy as np


def _linear(w, name, x):
    """x weight + bias."""
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _norm(w, name, x):
    """Layer norm."""
    x = x - x.mean(axis=-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]


def _attention(w, name, x, heads):
    """Multi-head attention."""
    B, N, D = x.shape
    q, k, v = _linear(w, f"{name}.qkv", x).reshape(B, N, 3, heads, D // heads).transpose(2, 0, 3, 1, 4)
    probs = jax.nn.softmax(q @ k.swapaxes(-1, -2) / np.sqrt(D // heads), axis=-1)
    return _linear(w, f"{name}.proj", (probs @ v).transpose(0, 2, 1, 3).reshape(B, N, D))


def _forward(w, images, patch_size, depth, heads):
    """Images (B, H, W, C) -> logits (B, K); class token, learned positions."""
    B, H, W, C = images.shape
    P = patch_size
    kernel = w["patch_embed.proj.weight"].transpose(2, 3, 1, 0).reshape(P * P * C, -1)
    x = images.reshape(B, H // P, P, W // P, P, C).transpose(0, 1, 3, 2, 4, 5).reshape(B, -1, P * P * C)
    x = x @ kernel + w["patch_embed.proj.bias"]
    x = jnp.concatenate([jnp.broadcast_to(w["cls_token"], (B, 1, x.shape[-1])), x], axis=1) + w["pos_embed"]
    for l in range(depth):
        x = x + _attention(w, f"blocks.{l}.attn", _norm(w, f"blocks.{l}.norm1", x), heads)
        hidden = jax.nn.gelu(_linear(w, f"blocks.{l}.mlp.fc1", _norm(w, f"blocks.{l}.norm2", x)), approximate=False)
        x = x + _linear(w, f"blocks.{l}.mlp.fc2", hidden)
    return _linear(w, "head", _norm(w, "norm", x[:, 0]))


class Contestant:
    """What `minivit bench` times: a training step, and inference."""

    def __init__(self, family, config, weights, images, labels, threads):
        # JAX takes its threads from the process's affinity, and has no setting for them.
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        sizes = {name: config[name] for name in ("patch_size", "depth", "heads")}
        self.weights = {name: jnp.array(array) for name, array in weights.items()}
        self.state = jax.tree.map(jnp.zeros_like, (self.weights, self.weights))
        self.images, self.labels, self.t = jnp.array(images), jnp.array(labels), 0
        decay = {name: 0.05 * (array.ndim > 1 and name.endswith("weight")) for name, array in weights.items()}

        def loss(w):
            log_p = jax.nn.log_softmax(_forward(w, self.images, **sizes))
            return -log_p[jnp.arange(len(self.labels)), self.labels].mean()

        def step(w, state, t):
            g = jax.grad(loss)(w)
            scale = jnp.minimum(1.0, 1.0 / (jnp.sqrt(sum((x * x).sum() for x in g.values())) + 1e-6))
            m = {k: 0.9 * state[0][k] + 0.1 * scale * g[k] for k in w}
            v = {k: 0.999 * state[1][k] + 0.001 * (scale * g[k]) ** 2 for k in w}
            w = {k: w[k] * (1 - 1e-4 * decay[k])
                 - 1e-4 * (m[k] / (1 - 0.9**t)) / (jnp.sqrt(v[k] / (1 - 0.999**t)) + 1e-8) for k in w}
            return w, (m, v)

        self.step = jax.jit(step, donate_argnums=(0, 1))
        self.forward = jax.jit(lambda w: _forward(w, self.images, **sizes))

    def train(self):
        """Forward, loss, backward, clipping, AdamW, as one compiled function."""
        self.t += 1
        self.weights, self.state = self.step(self.weights, self.state, float(self.t))
        self.weights["head.bias"].block_until_ready()

    def infer(self):
        """Return logits (B, K)."""
        return np.asarray(self.forward(self.weights))


def product(m, k, n, threads):
    """Return a function that multiplies (m, k) by (k, n) in float32, for JAX's own limit."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    a, b = jnp.ones((m, k), jnp.float32), jnp.ones((k, n), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    return lambda: multiply(a, b).block_until_ready()
