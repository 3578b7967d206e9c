import io
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dml.data import EvaluationTransform
from dml.data.decoding import resize_short_side
from dml.model import EmbeddingModel
from dml.pooling import GeneralizedSumPooling, GlobalAveragePooling
from dml.types import Normalisation, Pooled


class Pixels(nn.Module):
    """A backbone that hands its input on."""

    out_channels = 3
    normalisation: ClassVar[Normalisation] = Normalisation((10.0, 20.0, 30.0), (2.0, 4.0, 5.0))

    def forward(self, images: Tensor) -> Tensor:
        return images


class BlueFirst(Pixels):
    normalisation = Normalisation((10.0, 20.0, 30.0), (2.0, 4.0, 5.0), bgr=True)


class AfterPooling(GlobalAveragePooling):
    """Average pooling of embedded locations."""

    pools_embedded = True


IMAGES = torch.randint(0, 256, (4, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PREPROCESS = EvaluationTransform(size=6, resize=6)


def model(
    backbone: nn.Module | None = None, pooling: nn.Module | None = None, dim: int = 8
) -> EmbeddingModel:
    torch.manual_seed(0)
    return EmbeddingModel(
        backbone or Pixels(), pooling or GlobalAveragePooling(3), embedding_dim=dim, preprocess=PREPROCESS
    )


def test_vectors_have_unit_length() -> None:
    torch.testing.assert_close(model()(IMAGES).vectors.norm(dim=1), torch.ones(4))


def test_images_are_normalised_as_the_backbone_wants() -> None:
    features = model().features(IMAGES)
    torch.testing.assert_close(features[:, 1], (IMAGES[:, 1].float() - 20) / 4)


def test_a_backbone_for_blue_first_gets_the_channels_turned_round() -> None:
    features = model(BlueFirst()).features(IMAGES)
    torch.testing.assert_close(features[:, 0], (IMAGES[:, 2].float() - 10) / 2)


def test_the_linear_map_before_average_pooling_equals_the_one_after_it() -> None:
    after, before = model(), model(pooling=AfterPooling(8))
    before.load_state_dict(after.state_dict())
    torch.testing.assert_close(after(IMAGES).vectors, before(IMAGES).vectors)


def test_gsp_sees_embedded_locations_and_its_statements_come_through() -> None:
    pooling = GeneralizedSumPooling(
        8, num_prototypes=5, transport_ratio=0.3, sharpness=5.0, learnable_ratio=False, lloyd_iterations=1
    )
    embedding = model(pooling=pooling)
    assert embedding.features(IMAGES).shape == (4, 8, 6, 5)
    pooled: Pooled = embedding(IMAGES)
    assert pooled.attributes.shape == (4, 5) and pooled.weights.shape == (4, 30)


@pytest.mark.parametrize("images", [IMAGES.float(), IMAGES.float() / 255])
def test_images_that_are_not_bytes_are_refused(images: Tensor) -> None:
    with pytest.raises(TypeError, match=r"torch.float32.*uint8.*model.preprocess"):
        model()(images)


def test_embed_equals_preprocessing_and_forward_and_restores_the_mode(tmp_path) -> None:  # type: ignore[no-untyped-def]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8))
    picture.save(tmp_path / "picture.png")
    embedding = model().train()
    vectors = embedding.embed([picture, tmp_path / "picture.png"], batch_size=1)
    expected = embedding(PREPROCESS(np.asarray(picture))[None]).vectors
    torch.testing.assert_close(vectors, expected.detach().expand(2, -1))
    assert embedding.training


def test_embed_turns_a_photograph_upright(tmp_path) -> None:  # type: ignore[no-untyped-def]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    upright = picture.transpose(Image.Transpose.ROTATE_270)
    torch.testing.assert_close(model().embed([tmp_path / "turned.png"]), model().embed([upright]))


def test_embed_reads_16_bits_and_lays_transparency_on_white(tmp_path) -> None:  # type: ignore[no-untyped-def]
    grey = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    shown = model().embed(
        [tmp_path / "deep.png", Image.fromarray(grey), clear, Image.new("RGB", (8, 8), "white")]
    )
    torch.testing.assert_close(shown[0], shown[1])
    torch.testing.assert_close(shown[2], shown[3])


def test_embed_keeps_frozen_layers_frozen() -> None:
    embedding = model().train()
    embedding.pooling.eval()
    embedding.embed([Image.new("RGB", (8, 8))])
    assert embedding.training and not embedding.pooling.training


@pytest.mark.parametrize("single", ["a.png", Image.new("RGB", (8, 8)), b"\xff\xd8", io.BytesIO()])
def test_embed_of_a_single_picture_says_to_give_a_list(single: object) -> None:
    with pytest.raises(TypeError, match=r"list of images.*\[image\]"):
        model().embed(single)  # type: ignore[arg-type]


def test_embed_names_a_file_that_is_no_picture(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(OSError, match=r"broken.jpg cannot be read as an image"):
        model().embed([tmp_path / "broken.jpg"])


def test_embed_takes_paths_pillow_images_bytes_and_open_files(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(path)
    with path.open("rb") as opened:
        forms = [str(path), path, Image.open(path), path.read_bytes(), io.BytesIO(path.read_bytes()), opened]
        vectors = model().embed(iter(forms), batch_size=6)
    assert torch.equal(vectors, vectors[:1].expand(6, -1))


def test_embed_leaves_out_what_cannot_be_read_only_if_it_may_say_so(tmp_path) -> None:  # type: ignore[no-untyped-def]
    good = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8))
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    sliver = Image.new("RGB", (1, 200))  # far too long at its short side of 2^26 pixels
    embedding = model()
    embedding.preprocess = lambda image: (
        PREPROCESS(image) if image.shape[1] > 1 else resize_short_side(image, 2**26)
    )
    images = [
        tmp_path / "broken.jpg",
        good,
        b"nothing",
        tmp_path / "gone.jpg",
        sliver,
        io.StringIO("text"),
        good,
    ]
    with pytest.raises(OSError, match=r"broken\.jpg cannot be read"):
        embedding.embed(images)
    unreadable: dict[int, str] = {}
    with pytest.raises(TypeError, match=r"image 5 .*gives text; open it for reading bytes"):
        embedding.embed(images, unreadable=unreadable)
    images[5] = io.BytesIO(b"")
    unreadable.clear()
    vectors = embedding.embed(images, unreadable=unreadable, batch_size=1)
    assert torch.equal(vectors, model().embed([good, good], batch_size=1))
    assert list(unreadable) == [0, 2, 3, 4, 5] and "image 2 (bytes)" in unreadable[2]


def test_embed_says_what_is_no_image() -> None:
    with pytest.raises(TypeError, match=r"image 0 is of type int; accepted: a path, a Pillow image, bytes"):
        model().embed([3])  # type: ignore[list-item]
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(OSError, match=r"image 0 .* cannot be read: .*open it again"):
        model().embed([closed])
    with pytest.raises(OSError, match=r"image 0 \(a Pillow image\) is refused: its pixels are float32"):
        model().embed([Image.fromarray(np.full((4, 4), -1.0, np.float32))])


def test_embed_refuses_an_empty_batch() -> None:
    with pytest.raises(ValueError, match="batch_size=0"):
        model().embed([], batch_size=0)


def test_embed_of_nothing_is_empty() -> None:
    assert model().embed([]).shape == (0, 8)
