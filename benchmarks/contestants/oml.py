"""open-metric-learning, as its documentation shows: ImageLabeledDataset, BalanceSampler and the plain loop around them,
then `inference`, RetrievalResults and calc_retrieval_metrics_rr.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from contestants.job import Job, Measurement, Waiting, resident, take_gradient_norm
from contestants.shared import batchnorm, contrastive, peer_model, peer_transforms


def run_oml(job: Job, *, by_hand: bool) -> Measurement:
    from oml.datasets import ImageLabeledDataset, ImageQueryGalleryLabeledDataset
    from oml.samplers import BalanceSampler
    from tqdm import tqdm

    waiting = Waiting(job.clock)
    model = oml_extractor(*peer_model(job, by_hand))
    for_training, for_evaluation = peer_transforms(job, by_hand)
    data = ImageLabeledDataset(oml_table(job, "train"), transform=for_training)
    test = ImageQueryGalleryLabeledDataset(oml_table(job, "test"), transform=for_evaluation)
    sampler = BalanceSampler(
        data.get_labels(), n_labels=job.classes_per_batch, n_instances=job.images_per_class
    )
    loader = torch.utils.data.DataLoader(data, batch_sampler=sampler, num_workers=job.workers)
    criterion = contrastive(job)
    trunk_lr, embedder_lr = job.rates
    groups = [
        {"params": list(model.trunk.parameters()), "lr": trunk_lr},
        {"params": list(model.embedder.parameters()), "lr": embedder_lr},
    ]
    optimizer = torch.optim.AdamW(groups, **job.adamw)
    model.train()
    for module in batchnorm(model):
        module.eval()
    held = resident("VmRSS")
    loss, gradient_norm = oml_first_batch(model, criterion, for_evaluation, job)

    start = job.clock()
    for batch in tqdm(waiting.each(oml_steps(loader, job.steps)), total=job.steps):
        step_loss = criterion(model(batch["input_tensors"]), batch["labels"])
        step_loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = job.clock()
    recall = oml_evaluate(model, test, job)
    evaluation = job.clock() - trained
    return Measurement(loss, gradient_norm, trained - start, waiting.seconds, evaluation, recall, held)


def oml_steps(loader: Any, steps: int) -> Iterator[Any]:
    """As many batches as there are steps, one pass of the loader after the other."""
    while steps > 0:
        for batch in loader:
            yield batch
            steps -= 1
            if not steps:
                return


def oml_extractor(trunk: nn.Module, embedder: nn.Module) -> Any:
    from oml.interfaces.models import IExtractor

    class Extractor(IExtractor):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.embedder = trunk, embedder

        def forward(self, images: Tensor) -> Tensor:
            return normalize(self.embedder(self.trunk(images)))

        @property
        def feat_dim(self) -> int:
            return int(self.embedder.out_features)

    return Extractor()


def oml_table(job: Job, half: str) -> Any:
    import pandas as pd

    files = sorted((Path(job.folder) / half).glob("*/*.png"))
    rows = {"label": [int(file.parent.name) for file in files], "path": [str(file) for file in files]}
    return pd.DataFrame({**rows, "is_query": True, "is_gallery": True})


def oml_first_batch(model: Any, criterion: nn.Module, transform: Any, job: Job) -> tuple[float, float]:
    from oml.utils.images.images import imread_pillow

    images = torch.stack([transform(imread_pillow(Path(file).read_bytes())) for file in job.first_files()])
    loss = criterion(model(images), torch.tensor(job.first_labels))
    loss.backward()
    return loss.item(), take_gradient_norm(model)


def oml_evaluate(model: Any, test: Any, job: Job) -> float:
    from oml.inference import inference
    from oml.metrics import calc_retrieval_metrics_rr
    from oml.retrieval import RetrievalResults

    embeddings = inference(model, test, batch_size=job.evaluation_batch, num_workers=job.workers)
    labels = torch.as_tensor(test.get_labels())
    top = int(labels.bincount().max()) - 1
    results = RetrievalResults.from_embeddings(embeddings, test, n_items=max(top, 8))
    metrics = calc_retrieval_metrics_rr(
        results, cmc_top_k=(1, 2, 4, 8), map_top_k=(top,), precision_top_k=(top,), verbose=False
    )
    return float(metrics["cmc"][1])
