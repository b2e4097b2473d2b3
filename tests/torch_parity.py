"""Helpers of the parity tests with PyTorch: weights, gradients and training of the peer models. Needs torch."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from minivit.bench.peers.torch_resnet import TorchResNet
from minivit.bench.peers.torch_vit import TorchViT


def declare(config):
    """Return the model of a configuration, with the random weights of torch."""
    return (TorchResNet if "layers" in config else TorchViT)(**config)


def make_model(config, weights):
    """Return a float64 model with the given weights, {timm's name: array}."""
    model = declare(config).double()
    model.load_state_dict({name: torch.tensor(array, dtype=torch.float64) for name, array in weights.items()})
    return model


def random_weights(config, rng, unit):
    """Return random weights, multiples of `unit`, which are exact in float32 and float64."""
    def draw(name, shape):
        scale = 1.2 / np.sqrt(np.prod(shape[1:])) if name.endswith("weight") and len(shape) > 1 else 0.4
        center = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        return unit * np.round((scale * rng.standard_normal(shape) + center) / unit)

    return {name: draw(name, tuple(tensor.shape)) for name, tensor in declare(config).state_dict().items()}


def arrays(tensors):
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors}


def gradients(model, images, labels, label_smoothing):
    """Return (logits, loss, {name: gradient}, gradient of the images) for images (B, H, W, C), labels (B,)."""
    images = torch.tensor(images, dtype=next(model.parameters()).dtype, requires_grad=True)
    logits = model(images.permute(0, 3, 1, 2))
    loss = F.cross_entropy(logits, torch.tensor(labels, dtype=torch.int64), label_smoothing=label_smoothing)
    model.zero_grad()
    loss.backward()
    gradients = arrays((name, p.grad) for name, p in model.named_parameters())
    return logits.detach().numpy(), loss.item(), gradients, images.grad.numpy()


def train(model, batches, *, lr, weight_decay, clip, label_smoothing):
    """Train in place, one step of AdamW for each (images, labels); return losses and gradient norms before clipping."""
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
