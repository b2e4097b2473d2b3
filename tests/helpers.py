"""What several test files share."""

import os
from contextlib import contextmanager

import numpy as np

from minivit import cli, load
from minivit.training_pipeline.folder import RunFolder
from minivit.weight_formats.timm import to_timm


def relative_difference(a, b):
    """max|a - b| / max|b|: how far a is from b, in units of b's largest entry (0 / 0 counts as 0)."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape, f"shapes differ: {a.shape} and {b.shape}"
    if a.size == 0:
        return 0.0
    difference, largest = np.abs(a - b).max(), np.abs(b).max()
    return float(difference / largest) if largest else float(difference)


def interrupt(patch, owner, name, number):
    """Raise KeyboardInterrupt in this call, counted from 1, of the function owner.name."""
    function, count = getattr(owner, name), 0

    def interrupted(*arguments, **options):
        nonlocal count
        count += 1
        if count == number:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    patch.setattr(owner, name, interrupted)


def change_weights(folder):
    """Make each weight of a run one per cent larger."""
    model = load(folder)
    model.vector[:] *= 1.01
    RunFolder(folder).write_model(model)


@contextmanager
def permissions(mode, folder):
    """Give a folder these permissions in the block, also for root, who becomes the user nobody there."""
    root = os.geteuid() == 0
    parents = [path for path in folder.parents if path != path.parent][:-1] if root else []
    changed = {path: path.stat().st_mode for path in (folder, *parents)}
    for path in parents:                         # the user nobody needs access to the parents
        path.chmod(0o755)
    folder.chmod(mode)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, before in changed.items():
            path.chmod(before)


def google_arrays(model):
    """The arrays of Google's own file of a ViT's weights, {its name: array}."""
    def halves(p):
        return {f"{p}/kernel": values[f"{names[p]}.weight"].T, f"{p}/bias": values[f"{names[p]}.bias"]}

    values, arrays, names = to_timm(model), {}, {"head": "head"}
    kernel = values["patch_embed.proj.weight"].transpose(2, 3, 1, 0)
    arrays |= {"embedding/kernel": kernel, "embedding/bias": values["patch_embed.proj.bias"],
               "cls": values["cls_token"],
               "Transformer/posembed_input/pos_embedding": values["pos_embed"]} | halves("head")
    norms = {"Transformer/encoder_norm": "norm"}
    for l, layer in enumerate(model.blocks):
        block, D, h = f"Transformer/encoderblock_{l}", model.width, layer.attn.heads
        norms |= {f"{block}/LayerNorm_0": f"blocks.{l}.norm1", f"{block}/LayerNorm_2": f"blocks.{l}.norm2"}
        names = {f"{block}/MlpBlock_3/Dense_{k}": f"blocks.{l}.mlp.fc{k + 1}" for k in (0, 1)}
        arrays |= {key: value for p in names for key, value in halves(p).items()}
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for k, part in enumerate(("query", "key", "value")):
            rows = slice(k * D, (k + 1) * D)
            arrays[f"{attention}/{part}/kernel"] = values[f"blocks.{l}.attn.qkv.weight"][rows].T.reshape(D, h, D // h)
            arrays[f"{attention}/{part}/bias"] = values[f"blocks.{l}.attn.qkv.bias"][rows].reshape(h, D // h)
        arrays[f"{attention}/out/kernel"] = values[f"blocks.{l}.attn.proj.weight"].T.reshape(h, D // h, D)
        arrays[f"{attention}/out/bias"] = values[f"blocks.{l}.attn.proj.bias"]
    for place, name in norms.items():
        arrays |= {f"{place}/scale": values[f"{name}.weight"], f"{place}/bias": values[f"{name}.bias"]}
    return arrays


def with_random_head(model):
    """The model with random weights in its classifier, which starts at zero: a file of such weights is refused."""
    for p in model.parameters():
        if p.name.startswith("head") and p.decay:
            p.data = np.random.default_rng(0).standard_normal(p.shape)
    return model


def assert_refused(tmp_path, capsys, arguments, message):
    """Check that a command ends with code 2 and one line that holds `message`, and that it writes nothing."""
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.rglob("*")) == before
