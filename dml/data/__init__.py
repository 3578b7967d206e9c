"""Readers of data sets, protocols that split them, transforms, samplers and batches."""

from dml.data.cars import cars
from dml.data.collage import collage_dataset
from dml.data.contents import Contents, PartContents, contents, contents_differences
from dml.data.cub import cub
from dml.data.decoding import decode
from dml.data.discovery import find_images
from dml.data.emoji import emoji_dataset
from dml.data.folder import folder
from dml.data.grocery import grocery
from dml.data.hub import hub
from dml.data.inshop import inshop
from dml.data.loading import evaluation_batches, training_batches
from dml.data.protocols import conventional, everything, holdout, mlrc
from dml.data.reading import ImageSource, decode_source, read_ahead
from dml.data.records import ImageStore, Records, Splits, TrainTest
from dml.data.samplers import ClassBalancedSampler, Sampler, UniformSampler
from dml.data.shards import shards
from dml.data.sop import sop
from dml.data.table import table
from dml.data.transforms import EvaluationTransform, TrainingTransform

__all__ = [
    "ClassBalancedSampler",
    "Contents",
    "EvaluationTransform",
    "ImageSource",
    "ImageStore",
    "PartContents",
    "Records",
    "Sampler",
    "Splits",
    "TrainTest",
    "TrainingTransform",
    "UniformSampler",
    "cars",
    "collage_dataset",
    "contents",
    "contents_differences",
    "conventional",
    "cub",
    "decode",
    "decode_source",
    "emoji_dataset",
    "evaluation_batches",
    "everything",
    "find_images",
    "folder",
    "grocery",
    "holdout",
    "hub",
    "inshop",
    "mlrc",
    "read_ahead",
    "shards",
    "sop",
    "table",
    "training_batches",
]
