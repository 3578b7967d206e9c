"""Deep metric learning: train, evaluate and use image embeddings.

model = dml.load_model("runs/…")        # of any run folder, with its preprocessing
vectors = model.embed(["a.jpg", …])     # unit vectors; their dot product is the similarity
index = dml.open_index("photos.index")  # made by `dml index build`
hits = index.search(["a.jpg"], k=10)    # for each image, the most similar ones
"""

import tempfile

from dml.errors import MissingFileError

try:
    tempfile.gettempdir()  # torch asks for it while it is imported, and does not say what it would be for
except FileNotFoundError as error:
    raise MissingFileError(
        "no folder for temporary files can be written to, and torch is not imported without one: set the variable "
        "TMPDIR to a folder that can, as in TMPDIR=$HOME/tmp"
    ) from error

from dml.index.index import open_index
from dml.runs import load_model

__all__ = ["load_model", "open_index"]
