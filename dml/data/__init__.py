"""Readers of data sets, protocols that split them, transforms, samplers and batches."""

from dml.data.emoji import emoji_dataset
from dml.data.loading import evaluation_batches, training_batches
from dml.data.protocols import conventional, holdout, mlrc
from dml.data.records import ImageStore, Records, Splits, TrainTest
from dml.data.samplers import ClassBalancedSampler, Sampler, UniformSampler
from dml.data.transforms import EvaluationTransform, TrainingTransform

__all__ = [
    "ClassBalancedSampler",
    "EvaluationTransform",
    "ImageStore",
    "Records",
    "Sampler",
    "Splits",
    "TrainTest",
    "TrainingTransform",
    "UniformSampler",
    "conventional",
    "emoji_dataset",
    "evaluation_batches",
    "holdout",
    "mlrc",
    "training_batches",
]
