import pytest
import timm
import torch

from dml.assembly import build_model
from dml.backbones import Timm


def build(model, *, pretrained=False, img_size=None, checkpoint=None):
    return Timm(model, pretrained=pretrained, img_size=img_size, checkpoint=checkpoint).eval()


def test_a_vision_transformer_gives_its_tokens_without_the_class_token():
    backbone = build("vit_tiny_patch16_224", img_size=96)
    images = torch.randn(2, 3, 96, 96)
    tokens = backbone(images)
    assert tokens.shape == (2, 36, 192)
    torch.testing.assert_close(tokens, backbone.network.forward_features(images)[:, 1:])


@pytest.mark.parametrize(("model", "channels"), [("test_vit2", 64), ("deit_tiny_distilled_patch16_224", 192)])
def test_every_prefix_token_is_dropped_at_any_size(model, channels):
    tokens = build(model)(torch.randn(1, 3, 64, 96))
    assert tokens.shape == (1, 4 * 6, channels)


@pytest.mark.slow  # its smallest model takes seconds to build
def test_the_class_token_of_volo_is_dropped_though_volo_does_not_count_it():
    assert build("volo_d1_224", img_size=64)(torch.randn(1, 3, 64, 64)).shape == (1, 16, 384)


def test_a_map_with_channels_last_is_transposed():
    backbone = build("swin_tiny_patch4_window7_224", img_size=64)
    images = torch.randn(1, 3, 64, 64)
    feature_map = backbone(images)
    assert feature_map.shape == (1, backbone.out_channels, 2, 2) == (1, 768, 2, 2)
    torch.testing.assert_close(feature_map[0, :, 1, 0], backbone.network.forward_features(images)[0, 1, 0])


@pytest.mark.parametrize("model", ["test_convnext", "mobilenetv3_small_050", "test_efficientnet"])
def test_what_is_trainable_gets_a_gradient(model):
    backbone = build(model)
    backbone(torch.randn(1, 3, 96, 127)).square().sum().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in backbone.parameters())


def test_normalisation_is_that_of_the_model():
    assert build("test_vit").normalisation.mean == pytest.approx((127.5, 127.5, 127.5))
    assert build("resnet18").normalisation.std == pytest.approx((58.395, 57.12, 57.375))


@pytest.mark.parametrize("model", ["test_convnext", "test_vit"])
def test_a_checkpoint_is_loaded_without_its_classifier(model, tmp_path):
    whole = timm.create_model(model).eval()
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    backbone = build(model, checkpoint=str(tmp_path / "whole.pth"))
    images = torch.randn(1, 3, 160, 160)
    prefix = getattr(whole, "num_prefix_tokens", 0)
    torch.testing.assert_close(backbone(images), whole.forward_features(images)[:, prefix:])


def test_a_checkpoint_of_a_transformer_is_loaded_at_another_size(tmp_path):
    whole = timm.create_model("test_vit")
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    backbone = build("test_vit", img_size=96, checkpoint=str(tmp_path / "whole.pth"))
    assert backbone.network.pos_embed.shape == (1, 6 * 6 + 1, 64)
    torch.testing.assert_close(backbone.network.cls_token, whole.cls_token)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth lacks"):
        build("test_byobnet", checkpoint=str(tmp_path / "other.pth"))


def test_a_missing_checkpoint_is_named():
    with pytest.raises(FileNotFoundError, match=r"backbone\.checkpoint=nowhere\.pth is not a file"):
        build("test_resnet", checkpoint="nowhere.pth")


def test_an_unknown_model_is_refused_with_close_names():
    with pytest.raises(ValueError, match=r"no model 'resnet_18'; close to it: .*resnet18"):
        build("resnet_18")


@pytest.mark.parametrize(("model", "found"), [("crossvit_9_240", "list"), ("pit_ti_224", "a tensor")])
def test_a_model_without_one_map_or_set_of_tokens_is_refused(model, found):
    with pytest.raises(ValueError, match=f"gives {found}.*: neither one map nor one set of tokens"):
        build(model)


def test_a_size_for_a_model_that_takes_any_is_refused():
    with pytest.raises(ValueError, match=r"leave out backbone\.img_size=96"):
        build("test_resnet", img_size=96)


@pytest.mark.parametrize("model", ["convit_tiny", "coat_lite_tiny", "efficientformer_l1", "test_vit"])
def test_images_of_another_size_than_a_model_takes_are_refused_with_both_ways_out(model):
    backbone = build(model)
    built = backbone.network.pretrained_cfg["input_size"][1]
    said = rf"{model} was built for images of {built} × {built} pixels and does not take 72 × 72 \(.*\): "
    with pytest.raises(ValueError, match=rf"{said}give transform\.size={built}, or, .*backbone\.img_size=72"):
        backbone(torch.zeros(1, 3, 72, 72))
    with pytest.raises(ValueError, match=said):
        backbone.check_size(72)
    backbone.check_size(built)


def test_a_model_of_one_size_is_refused_before_a_run_begins(compose_smoke):
    cfg = compose_smoke("backbone=timm", "backbone.model=convit_tiny", "backbone.pretrained=false")
    with pytest.raises(ValueError, match=r"convit_tiny was built for .*give transform\.size=224"):
        build_model(cfg)


def test_an_error_at_the_size_that_a_model_was_built_for_is_passed_on():
    with pytest.raises(RuntimeError, match="channels"):
        build("test_resnet")(torch.zeros(1, 4, 160, 160))


@pytest.fixture
def broken_timm(monkeypatch):
    def make(error):
        def fail(*args, **options):
            raise error

        monkeypatch.setattr(timm, "create_model", fail)

    return make


def test_a_failed_download_says_what_to_do_and_keeps_its_cause(broken_timm):
    broken_timm(OSError("no route to host"))
    with pytest.raises(RuntimeError, match=r"no route.*backbone\.checkpoint.*pretrained=false") as caught:
        build("resnet18", pretrained=True)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("error", [TypeError("another argument"), RuntimeError("Invalid pretrained tag")])
def test_an_error_of_timm_itself_is_passed_on(broken_timm, error):
    broken_timm(error)
    with pytest.raises(type(error), match=str(error)):
        build("resnet18")
