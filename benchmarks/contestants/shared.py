"""The network, the transforms and the loss of both peers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contestants.job import Job

NETWORK = "tf_efficientnet_lite0"


class FromBytes(nn.Module):
    """Normalise bytes inside the model, as dml does."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def peer_model(job: Job, by_hand: bool) -> tuple[nn.Module, nn.Module]:
    """Backbone with average pooling, (B, 3, H, W) -> (B, C), and the linear map after it; BatchNorm has no gradient."""
    import timm

    weights = torch.load(Path(job.folder) / "weights.pt", weights_only=True)
    trunk: nn.Module = timm.create_model(NETWORK, pretrained=False, num_classes=0)
    trunk.load_state_dict(weights["trunk"])
    for module in batchnorm(trunk):
        module.requires_grad_(False)
    embedding_dim, channels = weights["embedder"]["weight"].shape
    embedder = nn.Linear(channels, embedding_dim, bias=False)
    embedder.load_state_dict(weights["embedder"])
    if by_hand:
        trunk = nn.Sequential(FromBytes(job.mean, job.std), trunk.to(memory_format=torch.channels_last))
    return trunk, embedder


def batchnorm(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def peer_transforms(job: Job, by_hand: bool) -> tuple[Any, Any]:
    """For training and evaluation, from an image of PIL."""
    from torchvision import transforms

    unit = [[value / 255 for value in values] for values in (job.mean, job.std)]
    to_tensor = [transforms.ToTensor(), transforms.Normalize(*unit)]
    if by_hand:
        to_tensor = [transforms.PILToTensor()]
    crop = transforms.RandomResizedCrop(job.size, tuple(job.scale), tuple(job.ratio))
    train = transforms.Compose([crop, transforms.RandomHorizontalFlip(job.flip), *to_tensor])
    return train, transforms.Compose([transforms.Resize((job.size, job.size)), *to_tensor])


def contrastive(job: Job) -> nn.Module:
    from pytorch_metric_learning.losses import ContrastiveLoss

    return ContrastiveLoss(**job.margins)
