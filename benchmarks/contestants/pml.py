"""pytorch-metric-learning, as its documentation shows: its MetricLossOnly trainer with MPerClassSampler,
freeze_trunk_batchnorm and, as the hook at the end of the epoch, GlobalEmbeddingSpaceTester with
AccuracyCalculator(k="max_bin_count").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from contestants.job import Job, Measurement, Waiting, resident, take_gradient_norm
from contestants.shared import contrastive, peer_model, peer_transforms


def run_pml(job: Job, *, by_hand: bool) -> Measurement:  # long: a trainer as its user writes it
    from pytorch_metric_learning.samplers import MPerClassSampler
    from pytorch_metric_learning.trainers import MetricLossOnly
    from torchvision.datasets import ImageFolder

    waiting, times = Waiting(job.clock), {}

    class Trainer(MetricLossOnly):
        def get_batch(self) -> Any:
            return waiting.fetch(super().get_batch)

    trunk, embedder = peer_model(job, by_hand)
    for_training, for_evaluation = peer_transforms(job, by_hand)
    folder = Path(job.folder)
    data = ImageFolder(str(folder / "train"), for_training)
    test = ImageFolder(str(folder / "test"), for_evaluation)
    sampler = MPerClassSampler(
        data.targets, job.images_per_class, job.batch_size, length_before_new_iter=job.steps * job.batch_size
    )
    results: dict[str, Any] = {}

    def evaluate(trainer: Any) -> None:
        times["trained"] = job.clock()
        results.update(pml_tester(job).test({"test": test}, trainer.epoch, trunk, embedder)["test"])
        times["evaluated"] = job.clock()

    models = {"trunk": trunk, "embedder": embedder}
    trainer = Trainer(
        models,
        {
            f"{name}_optimizer": torch.optim.AdamW(model.parameters(), lr=lr, **job.adamw)
            for (name, model), lr in zip(models.items(), job.rates, strict=True)
        },
        job.batch_size,
        {"metric_loss": contrastive(job)},
        data,
        iterations_per_epoch=job.steps,
        data_device=torch.device("cpu"),
        sampler=sampler,
        freeze_trunk_batchnorm=True,
        dataloader_num_workers=job.workers,
        end_of_epoch_hook=evaluate,
    )
    held = resident("VmRSS")
    trainer.set_to_train()
    rows = {file: row for row, (file, _) in enumerate(data.samples)}
    images = torch.stack([for_evaluation(data.loader(data.samples[rows[f]][0])) for f in job.first_files()])
    trainer.calculate_loss((images, torch.tensor(job.first_labels)))
    loss = trainer.losses["metric_loss"]
    loss.backward()
    gradient_norm = take_gradient_norm(trunk, embedder)
    start = job.clock()
    trainer.train(num_epochs=1)
    return Measurement(
        loss.item(),
        gradient_norm,
        times["trained"] - start,
        waiting.seconds,
        times["evaluated"] - times["trained"],
        results["precision_at_1_level0"],
        held,
    )


def pml_tester(job: Job) -> Any:
    from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    include = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    return GlobalEmbeddingSpaceTester(
        batch_size=job.evaluation_batch,
        dataloader_num_workers=job.workers,
        data_device=torch.device("cpu"),
        accuracy_calculator=AccuracyCalculator(include=include, k="max_bin_count"),
    )
