"""A Vision Transformer and a DeiT in ordinary PyTorch, under timm's names, for comparison and for parity tests.

Written from the paper's equations (Dosovitskiy et al., arXiv:2010.11929), independently of minivit. Needs torch.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class PatchEmbed(nn.Module):
    """Patches to tokens."""

    def __init__(self, patch_size, channels, width):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, images):
        """Map x to y."""
        return self.proj(images).flatten(2).transpose(1, 2)               # (B, D, rows, columns) -> (B, N, D)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        """Map x to y."""
        B, N, D = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, D))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, width, hidden):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x):
        """Map x to y."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width, heads, mlp_ratio):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x):
        """Map x to y."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TorchViT(nn.Module):
    """Images (B, C, H, W) -> logits (B, K). pool: "token" or "mean"; positions: "learned" or "none"."""

    def __init__(self, image_size, patch_size, channels, classes, width, depth, heads, mlp_ratio, pool, positions):
        super().__init__()
        tokens = (image_size // patch_size) ** 2 + (pool == "token")
        self.cls_token: Any = nn.Parameter(torch.zeros(1, 1, width)) if pool == "token" else None
        self.pos_embed: Any = nn.Parameter(torch.zeros(1, tokens, width)) if positions == "learned" else None
        self.patch_embed = PatchEmbed(patch_size, channels, width)
        self.blocks = nn.Sequential(*[Block(width, heads, mlp_ratio) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6) if pool == "token" else nn.Identity()
        self.fc_norm = nn.LayerNorm(width, eps=1e-6) if pool == "mean" else nn.Identity()
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        """Map images to logits."""
        x = self.patch_embed(images)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        x = self.norm(self.blocks(x))
        return self.head(self.fc_norm(x[:, 0] if self.cls_token is not None else x.mean(dim=1)))


class TorchDeiT(TorchViT):
    """A ViT with a distillation token and a second head (arXiv:2012.12877); the logits are the mean of both."""

    def __init__(self, image_size, patch_size, channels, classes, width, depth, heads, mlp_ratio, positions):
        super().__init__(image_size, patch_size, channels, classes, width, depth, heads, mlp_ratio, "token", positions)
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        if self.pos_embed is not None:
            self.pos_embed = nn.Parameter(torch.zeros(1, self.pos_embed.shape[1] + 1, width))
        self.head_dist = nn.Linear(width, classes)

    def forward(self, images):
        """Map images to logits."""
        x = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), self.dist_token.expand(len(x), -1, -1), x], dim=1)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        x = self.norm(self.blocks(x))
        return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
