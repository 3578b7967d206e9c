"""The same as ``dml train``: python train.py dataset=cub pooling=gsp. What it does, step by step: dml/train.py."""

import sys

from dml.commands import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
