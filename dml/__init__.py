"""Deep metric learning: train, evaluate and use image embeddings.

    model = dml.load_model("runs/…")        # of any run folder, with its preprocessing
    vectors = model.embed(["a.jpg", …])     # unit vectors; their dot product is the similarity
    index = dml.open_index("photos.index")  # made by `dml index build`
    hits = index.search(["a.jpg"], k=10)    # for each image, the most similar ones

What is named here is imported, and torch with it, when it is first used.
"""

import tempfile

import lazy_loader

from dml.errors import MissingFileError

__version__ = "0.2.0"

try:
    tempfile.gettempdir()  # torch asks for it while it is imported, and does not say what it would be for
except FileNotFoundError as error:
    raise MissingFileError(
        "no folder for temporary files can be written to, and torch is not imported without one: set the variable "
        "TMPDIR to a folder that can, as in TMPDIR=$HOME/tmp"
    ) from error

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
