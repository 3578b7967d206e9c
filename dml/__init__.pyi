from .index.index import open_index
from .runs import load_model

__version__: str
__all__ = ["__version__", "load_model", "open_index"]
