"""Exercises 10 to 13: MLP, block, head, and the whole Vision Transformer."""

import numpy as np

from ... import plain
from .. import references
from ..diagnosis import Fits
from ..examination import Case, Pair
from ..references import from_plain, layer_norm, linear, multi_head, part, prefixed
from .marking import Marking


def _random(rng, shapes):
    """Return random arrays by name; matrices scaled so that nothing saturates."""
    return {name: rng.standard_normal(shape) / (np.sqrt(shape[0]) if len(shape) > 1 else 2)
            for name, shape in shapes.items()}


def _fits(names, wrong):
    """Return Fits for each name, of {sentence: gradients by name}."""
    return {name: Fits(mistakes={sentence: g[name] for sentence, g in wrong.items() if name in g}) for name in names}


# ---- MLP ---------------------------------------------------------------------------------------------------

_MLP = {"fc1.weight": (5, 7), "fc1.bias": (7,), "fc2.weight": (7, 5), "fc2.bias": (5,)}


def _mlp_fits(a):
    hidden, _ = linear.forward(a.x, a.p["fc1.weight"], a.p["fc1.bias"])

    def narrow(hidden):
        return hidden @ a.p["fc2.weight"] + a.p["fc2.bias"]

    b, _ = references.gelu.forward(hidden)
    return Fits({"b fc2.weight": b @ a.p["fc2.weight"], "fc2.bias": np.broadcast_to(a.p["fc2.bias"], a.x.shape)},
                mistakes={"the GELU between the two linear maps is missing": narrow(hidden),
                          "there is a ReLU in place of the GELU": narrow(np.maximum(hidden, 0)),
                          "the GELU comes after the second linear map: it belongs between them":
                              references.gelu.forward(narrow(hidden))[0],
                          "x is added to y: the residual connection belongs to the block, not to the MLP":
                              narrow(b) + a.x,
                          "there is a second GELU, after fc2": references.gelu.forward(narrow(b))[0]})


def _mlp_backward_fits(a, dy):
    _, (cache1, gelu_cache, cache2) = references.mlp.forward(a.x, a.p)
    db, *_ = linear.backward(dy, cache2)

    def from_hidden(da):
        return dict(zip(("dx", "dfc1.weight", "dfc1.bias"), linear.backward(da, cache1), strict=True))

    da = references.gelu.backward(db, gelu_cache)
    wrong = {"the backward of the GELU is missing between the two linear maps": from_hidden(db),
             "the backward of the GELU is applied twice": from_hidden(references.gelu.backward(da, gelu_cache)),
             "the gradient passes GELU's forward instead of its backward": from_hidden(
                 references.gelu.forward(db)[0])}
    return _fits(from_hidden(db), wrong)


MLP = Pair(
    references.mlp, lambda rng: [Case({"x": rng.standard_normal((3, 11, 5)), "p": _random(rng, _MLP)},
                                      {"B": 3, "N": 11, "D": 5, "F": 7})],
    "y", (), _mlp_fits, _mlp_backward_fits,
    {"dx": "the gradient passes fc2, then the GELU, then fc1: each line of the forward has one in the backward"})

# ---- block -------------------------------------------------------------------------------------------------

_BLOCK = {"norm1.weight": (6,), "norm1.bias": (6,), "attn.qkv.weight": (6, 18), "attn.qkv.bias": (18,),
          "attn.proj.weight": (6, 6), "attn.proj.bias": (6,), "norm2.weight": (6,), "norm2.bias": (6,),
          "mlp.fc1.weight": (6, 7), "mlp.fc1.bias": (7,), "mlp.fc2.weight": (7, 6), "mlp.fc2.bias": (6,)}


def _block_fits(a):
    def norm(x, name):
        return layer_norm.forward(x, a.p[f"{name}.weight"], a.p[f"{name}.bias"])[0]

    def attend(x):
        return multi_head.forward(x, part(a.p, "attn"), a.heads)[0]

    def mlp(x):
        return references.mlp.forward(x, part(a.p, "mlp"))[0]

    def first(x):
        return attend(norm(x, "norm1"))

    def second(x):
        return mlp(norm(x, "norm2"))

    x = a.x
    z, post, n = x + first(x), norm(x + attend(x), "norm1"), norm(x, "norm1") + first(x)
    norms = "the norm comes after the sum (post-norm): each branch reads the tokens through its norm, before attention "
    return Fits({"x, the residual connections": x, "multi_head(layer_norm(x))": z - x, "mlp(layer_norm(z))": second(z)},
                mistakes={
        "the residual connection around the MLP is missing: y = z + mlp(layer_norm(z))": second(z),
        "the residual connection around the attention is missing: z = x + multi_head(layer_norm(x))":
            first(x) + second(first(x)),
        "both residual connections are missing": second(first(x)),
        f"{norms}and MLP": norm(post + mlp(post), "norm2"),
        f"for norm1, {norms}or MLP": post + second(post),
        f"for norm2, {norms}or MLP": norm(z + mlp(z), "norm2"),
        "the norm before the attention is missing": x + attend(x) + second(x + attend(x)),
        "the norm before the MLP is missing": z + mlp(z),
        "the second norm has the weights of norm1: it must have norm2.weight and norm2.bias": z + mlp(norm(z, "norm1")),
        "the first norm has the weights of norm2: it must have norm1.weight and norm1.bias":
            (w := x + attend(norm(x, "norm2"))) + second(w),
        "the MLP reads x, but must read z, the tokens after the attention": z + second(x),
        "the residual connection around the MLP adds x, but must add z": x + second(z),
        "the residual connections add what comes out of the norms: they add x and z themselves":
            norm(n, "norm2") + second(n)})


def _block_backward_fits(a, dy):
    _, (norm1, attn, norm2, mlp_cache) = references.block.forward(a.x, a.p, a.heads)

    def attention_branch(d):
        d, g = multi_head.backward(d, attn)
        d, dweight, dbias = layer_norm.backward(d, norm1)
        return d, {"norm1.weight": dweight, "norm1.bias": dbias} | prefixed("attn", g)

    def mlp_branch(d):
        return layer_norm.backward(references.mlp.backward(d, mlp_cache)[0], norm2)[0]

    m = mlp_branch(dy)
    terms = {"dy, the straight path around both branches": dy,
             "through the MLP's branch and around the attention": m,
             "around the MLP and through the attention's branch": attention_branch(dy)[0],
             "through both branches": attention_branch(m)[0]}
    lost = "the residual connection around the MLP is missing in the backward: y = z + mlp(...) gives dz = dy + ..."
    return {"dx": Fits(terms, mistakes={
        f"dx: {lost}": m + attention_branch(m)[0],
        "dx: the residual connection around the attention is missing in the backward: z = x + multi_head(...) gives "
        "dx = dz + ...": attention_branch(dy + m)[0],
        "dx: both residual connections are missing in the backward": attention_branch(m)[0],
        "dx: the backward of the norm before the attention is missing": dy + m + multi_head.backward(dy + m, attn)[0],
        "dx: the backward of the norm before the MLP is missing":
            (dz := dy + references.mlp.backward(dy, mlp_cache)[0]) + attention_branch(dz)[0],
        "dx: the attention's branch gets dy, but must get dz, with the gradient of the MLP's branch":
            dy + m + attention_branch(dy)[0],
        "dx: the residual connection around the attention adds dy, but must add dz": dy + attention_branch(dy + m)[0]}),
        **{f"d{name}": Fits(mistakes={f"d{name}: {lost}": g}) for name, g in attention_branch(m)[1].items()}}


BLOCK = Pair(
    references.block, lambda rng: [Case({"x": rng.standard_normal((5, 11, 6)), "p": _random(rng, _BLOCK), "heads": 3},
                                        {"B": 5, "N": 11, "D": 6, "F": 7, "h": 3})],
    "y", (), _block_fits, _block_backward_fits,
    {"dx": "x acts in four ways: through or around the MLP's branch, and through or around the attention's branch"})

# ---- head --------------------------------------------------------------------------------------------------

_HEAD = {"norm.weight": (5,), "norm.bias": (5,), "weight": (5, 11), "bias": (11,)}


def _head_fits(a):
    def logits(token):
        return token @ a.p["weight"] + a.p["bias"]

    n, _ = layer_norm.forward(a.x, a.p["norm.weight"], a.p["norm.bias"])
    return Fits({"n[:, 0] weight": n[:, 0] @ a.p["weight"], "bias": np.broadcast_to(a.p["bias"], (len(a.x), 11))},
                mistakes={
        "the logits read the mean of all tokens: they must read the class token alone, token 0": logits(n.mean(axis=1)),
        "the logits read the last token: the class token is token 0": logits(n[:, -1]),
        "the layer norm is missing": logits(a.x[:, 0]),
        "the logits read token 1: the class token is token 0": logits(n[:, 1])})


def _head_backward_fits(a, dlogits):
    _, (norm_cache, _, cache) = references.head.forward(a.x, a.p)
    dtoken, *_ = linear.backward(dlogits, cache)

    def gradients(dn):
        return dict(zip(("dx", "dnorm.weight", "dnorm.bias"), layer_norm.backward(dn, norm_cache), strict=True))

    everywhere = np.broadcast_to(dtoken[:, None], a.x.shape)
    last = np.zeros_like(a.x)
    last[:, -1] = dtoken
    only = np.zeros_like(a.x)
    only[:, 0] = dtoken
    wrong = {"every token gets the gradient of the class token: the logits read token 0 alone, so the gradient of the "
             "others is 0": gradients(everywhere),
             "the gradient is spread over all tokens: the logits read the class token, token 0, alone":
                 gradients(everywhere / a.x.shape[1]),
             "the gradient goes to the last token: the class token is token 0": gradients(last),
             "the backward of the layer norm is missing": {"dx": only}}
    return _fits(("dx", "dnorm.weight", "dnorm.bias"), wrong)


HEAD = Pair(
    references.head, lambda rng: [Case({"x": rng.standard_normal((3, 7, 5)), "p": _random(rng, _HEAD)},
                                       {"B": 3, "N": 7, "D": 5, "K": 11})],
    "logits", (), _head_fits, _head_backward_fits,
    {"dx": "only token 0 acts on the logits: the gradient of all other tokens is 0 after the norm"})

# ---- the whole ViT -----------------------------------------------------------------------------------------

_SIZES = {"image": 4, "patch": 2, "channels": 3, "width": 6, "depth": 3, "heads": 3, "hidden": 7, "classes": 5}


def _vit_cases(rng):
    shapes = {name: array.shape for name, array in from_plain(plain.make_parameters(_SIZES)).items()}
    yield Case({"images": rng.standard_normal((3, 4, 4, 3)), "p": _random(rng, shapes), "sizes": dict(_SIZES)},
               {"B": 3, "K": 5})


def _vit_fits(a):
    x, _ = references.patches.forward(a.images, 2)
    x, _ = references.embedding.forward(x, part(a.p, "embedding"))

    def logits(blocks):
        y = x
        for i in blocks:
            y, _ = references.block.forward(y, part(a.p, f"blocks.{i}"), 3)
        return references.head.forward(y, part(a.p, "head"))[0]

    return Fits(mistakes={
        "all blocks have the weights of block 0: block i has the parameters blocks.i": logits((0, 0, 0)),
        "all blocks have the weights of the last block: block i has the parameters blocks.i": logits((2, 2, 2)),
        "the blocks run in the reverse order": logits((2, 1, 0)),
        "only block 0 runs: repeat for each of the sizes[\"depth\"] blocks": logits((0,)),
        "the last block is left out": logits((0, 1)),
        "the first block is left out": logits((1, 2)),
        "no block runs": logits(())})


def _vit_backward_fits(a, dlogits):
    _, (embedding_cache, caches, head_cache) = references.vit.forward(a.images, a.p, a.sizes)
    dhead, _ = references.head.backward(dlogits, head_cache)

    def gradients(order, cache_of, hand_on=True):
        g: dict[str, np.ndarray] = {}
        dx = dhead
        for i in order:
            new, dp = references.block.backward(dx, caches[cache_of(i)])
            dx = new if hand_on else dx
            g |= prefixed(f"dblocks.{i}", dp)
        return g | prefixed("dembedding", references.embedding.backward(dx, embedding_cache)[1])

    down, up = (2, 1, 0), (0, 1, 2)
    wrong = {"the blocks go backward in the order of the forward: the last block comes first, use reversed(...)":
             gradients(up, lambda i: i),
             "every block uses the cache of the last block: block i needs its own": gradients(down, lambda i: 2),
             "every block uses the cache of the first block: block i needs its own": gradients(down, lambda i: 0),
             "the caches of the blocks are in the reverse order": gradients(down, lambda i: 2 - i),
             "every block gets the gradient of the head: hand the dx of each block to the next one":
                 gradients(down, lambda i: i, hand_on=False)}
    names = [name for name in gradients(down, lambda i: i) if not name.startswith("dhead")]
    return {name: Fits(mistakes={f"{name}: {sentence}": g[name] for sentence, g in wrong.items()}) for name in names}


VIT = Pair(references.vit, _vit_cases, "logits", ("images",), _vit_fits, _vit_backward_fits)

MARKINGS = {
    "mlp": Marking(MLP, "minivit/plain.py, `mlp` and `mlp_backward`", (
        "forward: three calls, linear, gelu, linear. Each returns a result and a cache: keep all three caches.",
        "backward: begin with linear.backward(dy, cache of fc2). It returns the gradient of b, and two gradients for "
        "the dictionary.",
        "gelu.backward takes the gradient of b and returns that of a. Then linear.backward with the cache of fc1.")),
    "block": Marking(BLOCK, "minivit/plain.py, `forward` and `backward`, and minivit/layers/block.py", (
        "forward: layer_norm.forward(x, p[\"norm1.weight\"], p[\"norm1.bias\"]), then multi_head.forward(..., part(p, "
        "\"attn\"), heads), then add x. Do the same with norm2 and mlp.",
        "backward: the branch of the MLP first. mlp.backward(dy, ...), then layer_norm.backward. Add dy: this is dz.",
        "Then the branch of the attention with dz in place of dy. Add dz: this is dx.",
        "The dictionary: {\"norm1.weight\": ..., ...} | prefixed(\"attn\", g of multi_head) | prefixed(\"mlp\", g of "
        "mlp).")),
    "head": Marking(HEAD, "minivit/ops/pooling.py, and minivit/plain.py", (
        "forward: layer_norm.forward for all tokens, then linear.forward(n[:, 0], p[\"weight\"], p[\"bias\"]). Keep "
        "both caches and the shape of x.",
        "backward: linear.backward gives the gradient of n[:, 0]. All other tokens of n have the gradient 0.",
        "`dn = np.zeros(shape, dlogits.dtype)`, then dn[:, 0] = the gradient of the token. Then layer_norm.backward.")),
    "vit": Marking(VIT, "minivit/plain.py, `forward` and `backward`", (
        "forward: patches, embedding, a loop over range(sizes[\"depth\"]) with part(p, f\"blocks.{i}\"), head. Append "
        "the cache of each block to a list.",
        "backward: head.backward, a loop over reversed(range(len(caches))), embedding.backward. Each gives the "
        "gradient for the next, and a dictionary.",
        "`g |= prefixed(f\"blocks.{i}\", dp)` adds the gradients of block i. Those of head and embedding get their "
        "prefixes too.")),
}
