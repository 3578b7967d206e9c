from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONFIGS = Path(__file__).parents[2] / "configs" / "backbone"


@pytest.fixture(scope="session")
def build_backbone(tmp_path_factory):
    """Build a backbone from its YAML, with differences, as an experiment would."""

    data = tmp_path_factory.mktemp("data")

    def build(name, **differences):
        node = OmegaConf.load(CONFIGS / f"{name}.yaml")
        OmegaConf.set_struct(node, True)
        node = OmegaConf.merge(node, differences)
        config = OmegaConf.create({"paths": {"data": str(data)}, "backbone": node})
        return instantiate(config.backbone, _convert_="all")

    return build
