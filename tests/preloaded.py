"""What the server imports and reads whose forks are the child processes of tests: see tests/children.py."""

import pytorch_metric_learning.losses  # noqa: F401
import torch._dynamo  # noqa: F401  by every optimizer

import dml.train  # noqa: F401
from dml.data.emoji import read_emoji
from dml.installation import EMOJI
from tests.emoji_once import decode_emoji_once

decode_emoji_once()
read_emoji(EMOJI)
