"""A Swin Transformer in ordinary PyTorch, under timm's names, for comparison.

Written from the paper (Liu et al., arXiv:2103.14030), independently of minivit. Needs torch.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .torch_vit import Mlp


def cut(x, side):
    """Split (B, H, W, D) into windows (B G, n, D)."""
    B, H, W, D = x.shape
    return x.view(B, H // side, side, W // side, side, D).transpose(2, 3).reshape(-1, side * side, D)


def join(windows, side, H, W):
    """Join windows to (B, H, W, D)."""
    D = windows.shape[-1]
    return windows.view(-1, H // side, W // side, side, side, D).transpose(2, 3).reshape(-1, H, W, D)


class WindowAttention(nn.Module):
    """Attention in windows of side w; `shift` shifts the image before it is split."""

    index: torch.Tensor
    mask: torch.Tensor | None

    def __init__(self, width, heads, grid, side, shift):
        super().__init__()
        self.heads, self.side, self.shift = heads, side, shift
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        place = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)  # (2, n)
        apart = place[:, :, None] - place[:, None] + side - 1
        self.register_buffer("index", apart[0] * (2 * side - 1) + apart[1], persistent=False)
        mask = None
        if shift:
            part = torch.zeros(grid, grid)
            for a, rows in enumerate((slice(-side), slice(-side, -shift), slice(-shift, None))):
                for b, columns in enumerate((slice(-side), slice(-side, -shift), slice(-shift, None))):
                    part[rows, columns] = 3 * a + b
            part = cut(part[None, ..., None], side).squeeze(-1)       # (M, n)
            mask = torch.zeros(len(part), 1, side**2, side**2).masked_fill((part[:, None] != part[:, :, None])[:, None],
                                                                           -100.0)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        """Map x to y."""
        B, H, W, D = x.shape
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = cut(x, self.side)
        q, k, v = self.qkv(x).view(len(x), -1, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)[None]  # (1, h, n, n)
        if self.mask is not None:
            bias = (bias + self.mask).repeat(B, 1, 1, 1)  # (B M, h, n, n)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).reshape(x.shape)
        y = join(self.proj(y), self.side, H, W)
        return torch.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y


class Block(nn.Module):
    """A block with attention in windows."""

    def __init__(self, width, heads, grid, side, shift, mlp_ratio):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, grid, side, shift)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x):
        """Map x to y."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    """Merge four neighbouring tokens."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x):
        """Map x to y."""
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
        return self.reduction(self.norm(x))


class Stage(nn.Module):
    """Blocks on maps of one size, after merging."""

    def __init__(self, width, depth, heads, grid, window, mlp_ratio, merges):
        super().__init__()
        side = min(window, grid)
        shift = side // 2 if side < grid else 0
        self.downsample = PatchMerging(width // 2) if merges else nn.Identity()
        self.blocks = nn.Sequential(*[Block(width, heads, grid, side, shift * (l % 2), mlp_ratio)
                                      for l in range(depth)])

    def forward(self, x):
        """Map x to y."""
        return self.blocks(self.downsample(x))


class PatchEmbed(nn.Module):
    """Patches to tokens."""

    def __init__(self, patch_size, channels, width):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(width)

    def forward(self, images):
        """Map x to y."""
        return self.norm(self.proj(images).permute(0, 2, 3, 1))       # (B, D, rows, columns) -> (B, rows, columns, D)


class Head(nn.Module):
    """Mean pooling and a linear map."""

    def __init__(self, width, classes):
        super().__init__()
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        """Map x to y."""
        return self.fc(x.mean(dim=(1, 2)))


class TorchSwin(nn.Module):
    """Images (B, C, H, W) -> logits (B, K)."""

    def __init__(self, image_size, patch_size, channels, classes, width, depths, heads, window, mlp_ratio):
        super().__init__()
        grid = image_size // patch_size
        self.patch_embed = PatchEmbed(patch_size, channels, width)
        self.layers = nn.Sequential(*[Stage(width << i, depth, heads[i], grid >> i, window, mlp_ratio, merges=i > 0)
                                      for i, depth in enumerate(depths)])
        self.norm = nn.LayerNorm(width << len(depths) - 1)
        self.head = Head(width << len(depths) - 1, classes)

    def forward(self, images):
        """Map images to logits."""
        return self.head(self.norm(self.layers(self.patch_embed(images))))
