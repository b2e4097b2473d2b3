"""A Vision Transformer in ordinary PyTorch, under timm's names: what minivit is compared with.

Written from the paper's equations (Dosovitskiy et al., arXiv:2010.11929) and knowing nothing of minivit. Needs torch.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class PatchEmbed(nn.Module):
    def __init__(self, patch_size, channels, width):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, images):
        return self.proj(images).flatten(2).transpose(1, 2)               # (B, D, rows, columns) -> (B, N, D)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        B, N, D = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, D))


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads, mlp_ratio):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TorchViT(nn.Module):
    """Images (B, C, H, W) -> logits (B, K). pool: "token" or "mean"; positions: "learned" or "none"."""

    def __init__(self, image_size, patch_size, channels, classes, width, depth, heads, mlp_ratio, pool, positions):
        super().__init__()
        tokens = (image_size // patch_size) ** 2 + (pool == "token")
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if pool == "token" else None
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width)) if positions == "learned" else None
        self.patch_embed = PatchEmbed(patch_size, channels, width)
        self.blocks = nn.Sequential(*[Block(width, heads, mlp_ratio) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6) if pool == "token" else nn.Identity()
        self.fc_norm = nn.LayerNorm(width, eps=1e-6) if pool == "mean" else nn.Identity()
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        x = self.patch_embed(images)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        x = self.norm(self.blocks(x))
        return self.head(self.fc_norm(x[:, 0] if self.cls_token is not None else x.mean(dim=1)))


def make_model(config, weights):
    """A float64 model with the given weights: {timm's name: array}."""
    model = TorchViT(**config).double()
    model.load_state_dict({name: torch.tensor(array, dtype=torch.float64) for name, array in weights.items()})
    return model


def random_weights(config, rng, unit):
    """Random weights far from any initialisation, as multiples of `unit`, which makes them exact in float32 and float64."""
    def draw(name, shape):
        scale = 1.2 / np.sqrt(np.prod(shape[1:])) if name.endswith("weight") and len(shape) > 1 else 0.4
        return unit * np.round((scale * rng.standard_normal(shape) + ("norm" in name and name.endswith("weight"))) / unit)

    return {name: draw(name, tuple(tensor.shape)) for name, tensor in TorchViT(**config).state_dict().items()}


def arrays(tensors):
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors}


def gradients(model, images, labels, label_smoothing):
    """images (B, H, W, C), labels (B,) -> logits, loss, {name: gradient}, gradient of the images (B, H, W, C)."""
    images = torch.tensor(images, dtype=torch.float64, requires_grad=True)
    logits = model(images.permute(0, 3, 1, 2))
    loss = F.cross_entropy(logits, torch.tensor(labels, dtype=torch.int64), label_smoothing=label_smoothing)
    model.zero_grad()
    loss.backward()
    return logits.detach().numpy(), loss.item(), arrays((name, p.grad) for name, p in model.named_parameters()), images.grad.numpy()


def train(model, batches, *, lr, weight_decay, clip, label_smoothing):
    """One step of AdamW for each (images, labels), in place -> losses, norms of the gradient before clipping."""
    kernels = [m.weight for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    others = [p for p in model.parameters() if all(p is not kernel for kernel in kernels)]
    groups = [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=lr)
    losses, norms = [], []
    for images, labels in batches:
        losses.append(gradients(model, images, labels, label_smoothing)[1])
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), clip).item())
        optimiser.step()
    return np.array(losses), np.array(norms)
