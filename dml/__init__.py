"""Deep metric learning: train, evaluate and use image embeddings.

model = dml.load_model("runs/…")        # of any run folder, with its preprocessing
vectors = model.embed(["a.jpg", …])     # unit vectors; their dot product is the similarity
"""

from dml.runs import load_model

__all__ = ["load_model"]
