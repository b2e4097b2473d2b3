"""The PyTorch models of this folder as contestants of `minivit bench`. Needs torch."""

import inspect

import torch
from torch import nn
from torch.nn import functional as F

from .torch_resnet import TorchResNet
from .torch_swin import TorchSwin
from .torch_vit import TorchDeiT, TorchViT

MODELS = {"vit": TorchViT, "deit": TorchDeiT, "swin": TorchSwin, "resnet": TorchResNet}


class Contestant:
    """What `minivit bench` times: a training step, and inference.

    variant: "" for eager; "compile"; "channels_last" for eager with channels last in memory.
    """

    def __init__(self, family, config, weights, images, labels, threads, variant=""):
        torch.set_num_threads(threads)
        order = torch.channels_last if variant == "channels_last" else torch.contiguous_format
        wanted = inspect.signature(MODELS[family]).parameters
        self.model = MODELS[family](**{name: value for name, value in config.items() if name in wanted})
        self.model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
        self.model.to(memory_format=order)
        kernels = [m.weight for m in self.model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
        others = [p for p in self.model.parameters() if all(p is not kernel for kernel in kernels)]
        groups = [{"params": kernels, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=1e-4, fused=True)
        self.images = torch.tensor(images.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=order)
        self.labels = torch.tensor(labels)
        self.forward = torch.compile(self.model, fullgraph=True) if variant == "compile" else self.model

    def train(self):
        """Forward, loss, backward, clipping, fused AdamW."""
        self.optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(self.forward(self.images), self.labels).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()

    def infer(self):
        """Return logits (B, K), without gradients."""
        with torch.inference_mode():
            return self.forward(self.images).numpy()


def product(m, k, n, threads):
    """Return a function that multiplies (m, k) by (k, n) in float32, for torch's own limit."""
    torch.set_num_threads(threads)
    a, b, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
    return lambda: torch.mm(a, b, out=out)
