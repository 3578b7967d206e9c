from dml.config import config_differences


def places(data: str, root: str, weights: str) -> dict:
    return {"paths": {"data": data}, "dataset": {"root": root}, "backbone": {"weights": weights}}


def test_files_that_have_moved_are_the_same_and_others_are_not() -> None:
    here = places("data", "data", "data/weights/a.pth")
    assert config_differences(here, places("/disk/sets", "/disk/sets/", "/home/a.pth")) == []
    assert config_differences(here, places("/disk", "/disk/birds", "a.pth")) == [
        "dataset.root: data -> /disk/birds"
    ]
    assert config_differences(here, places("data", "data", "data/weights/b.pth")) == [
        "backbone.weights: data/weights/a.pth -> data/weights/b.pth"
    ]
    assert config_differences({"dataset": {"name": "/a/saved"}}, {"dataset": {"name": "/b/saved"}}) == []
