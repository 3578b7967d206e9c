"""Gradients of a training step, by role of the parameters, for each case, and figures of a search that is shared."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from dml.distributed import gather_numbers, is_main
from dml.training import Trainer
from tests.composed import compose_config
from tests.noise import assemble
from tests.retrieval.embeddings import shared_figures

MEMORY = ("memory.batches=3", "memory.start_step=1")
LOSSES = ("contrastive", "triplet", "multi_similarity", "proxy_anchor")
CASES: dict[str, tuple[str, ...]] = {
    **{loss: (f"loss={loss}", "zero_shot.weight=0") for loss in LOSSES},
    **{f"{loss} + zero-shot": (f"loss={loss}",) for loss in LOSSES},
    **{f"{loss} + memory + zero-shot": (f"loss={loss}", *MEMORY) for loss in LOSSES[:3]},
    "margin + random miner + memory + zero-shot": ("loss=margin", "miner=distance_weighted", *MEMORY),
    "contrastive, from a few locations": ("loss=contrastive", "trainer.initialisation_locations=64"),
    "recall_at_k + memory": ("loss=recall_at_k", "zero_shot.weight=0", *MEMORY),
    "contrastive + memory of other images": ("loss=contrastive", "memory.own_images=false", *MEMORY),
}
BATCH = ("sampler.classes_per_batch=5", "sampler.images_per_class=4")  # 20 images: 3 processes get 6, 7 and 7
STEPS = 3


def gradients(*overrides: str) -> dict[str, Tensor]:
    """The gradient of the third step by role, after two steps of filling the memory."""
    cfg = compose_config("debug=smoke", *BATCH, *overrides)
    with tempfile.TemporaryDirectory() as folder:
        trainer = assemble(cfg, Path(folder))
        trainer._initialise_prototypes()
        trainer._train_mode()
        for step, batch in enumerate(trainer.batches(0, STEPS)):
            trainer.optimizer.zero_grad()
            _, pooled, labels, images = trainer.gradient(
                batch, step, gather_numbers(len(batch.labels))[:, 0].tolist()
            )
            trainer.objective.remember(pooled, labels, images)
    return by_role(trainer)


def by_role(trainer: Trainer) -> dict[str, Tensor]:
    groups = {
        group["name"]: [p.grad.flatten() for p in group["params"] if p.grad is not None]
        for group in trainer.optimizer.param_groups
    }
    return {role: torch.cat(parts) for role, parts in groups.items() if parts}


def write_gradients(folder: Path) -> None:
    """In each of some processes: gradients.pt and figures.json of all of them."""
    found = {name: gradients(*overrides) for name, overrides in CASES.items()}
    found["micro-batches of 4"] = gradients(
        *CASES["contrastive + memory + zero-shot"], "trainer.micro_batch=4"
    )
    figures = shared_figures()
    if is_main():
        torch.save(found, folder / "gradients.pt")
        (folder / "figures.json").write_text(json.dumps(figures))
