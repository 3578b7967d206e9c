import numpy as np
import pytest
import torch

from dml.data import EvaluationTransform
from dml.errors import InputError
from dml.index.fingerprint import GOLDEN_TOLERANCE, draw_golden_images, fingerprint_of, golden_difference
from dml.model import EmbeddingModel
from dml.pooling import GeneralizedMeanPooling, GlobalAveragePooling
from tests.index.small_model import Patches, small_model


def test_the_same_model_has_the_same_fingerprint_and_each_change_another() -> None:
    model = small_model()
    assert fingerprint_of(model) == fingerprint_of(small_model()) and len(fingerprint_of(model)) == 64
    others = [
        small_model(1),
        small_model(size=20),
        small_model(dim=9),
        small_model(),
        small_model(),
        small_model(),
    ]
    with torch.no_grad():
        others[3].projection.weight[0, 0] += 1e-6
    others[4].bgr = True
    others[5].mean += 1
    assert len({fingerprint_of(other) for other in (model, *others)}) == 7


def test_it_does_not_depend_on_where_the_model_was_loaded_or_used() -> None:
    model = small_model()
    before = fingerprint_of(model)
    model.train().embed(draw_golden_images())
    assert fingerprint_of(model.to(torch.float32)) == before


def test_golden_images_are_the_same_each_time_and_of_every_kind() -> None:
    images = draw_golden_images()
    assert images == draw_golden_images() and len(set(images)) == 5
    vectors = small_model().embed(images).numpy()
    assert golden_difference(small_model(), images, vectors) < 1e-6
    assert golden_difference(small_model(dim=9), images, vectors) == np.inf
    assert golden_difference(small_model(size=20), images, vectors) > GOLDEN_TOLERANCE


def no_exif(model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dml.data.decoding.upright", lambda pixels, orientation: pixels)


def other_order(model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = model.preprocess
    model.preprocess = lambda image: plain(np.ascontiguousarray(image[..., ::-1]))


@pytest.mark.parametrize("fault", [no_exif, other_order])
def test_what_no_weight_shows_is_seen_in_the_golden_images(fault, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    images = draw_golden_images()
    vectors = small_model().embed(images).numpy()
    model = small_model()
    fault(model, monkeypatch)
    assert golden_difference(model, images, vectors) > GOLDEN_TOLERANCE


def test_another_power_of_the_pooling_is_seen_though_no_weight_tells() -> None:
    images = draw_golden_images()
    torch.manual_seed(0)
    preprocess = EvaluationTransform(size=16, resize=16)
    plain = EmbeddingModel(Patches(), GlobalAveragePooling(24), embedding_dim=8, preprocess=preprocess).eval()
    other = EmbeddingModel(
        Patches(),
        GeneralizedMeanPooling(24, power=3.0, learned_power="none"),
        embedding_dim=8,
        preprocess=preprocess,
    ).eval()
    other.load_state_dict(plain.state_dict())
    vectors = plain.embed(images).numpy()
    assert golden_difference(other, images, vectors) > GOLDEN_TOLERANCE


def test_an_index_of_the_same_weights_in_another_program_is_refused(photo_index, photos, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from dml.index.index import open_index

    no_exif(small_model(), monkeypatch)
    with pytest.raises(
        InputError, match=r"the same weights, but vectors of the golden images differ by 0\.\d+"
    ):
        open_index(photo_index).search([photos / "class 0" / "0.png"])
