"""What a service answers, asked over HTTP as others ask it."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dml.index.building import add_to_index, remove_from_index
from dml.index.index import open_index
from dml.index.layout import IndexFolder
from dml.index.printing import Answer, as_json
from dml.index.writer import alone, open_writer
from dml.service import app as app_module
from dml.service.limits import Limits
from tests.index.conftest import draw
from tests.service.clients import Client, answering


def labelled(index: Path, **labels: str) -> None:
    """Give images of an index a label, by the names of their files."""
    with open_writer(IndexFolder(index)) as writer:
        for item in writer.items():
            writer.change(item, label=labels.get(f"n{Path(item.path).stem}", "other"))
        writer.finish()


def test_a_search_answers_as_the_command_does_for_one_query(photo_index: Path, photos: Path) -> None:
    image = photos / "class 1" / "4.png"
    with answering(photo_index) as client, open_index(photo_index) as index:
        reply = client.upload("/search", image.read_bytes(), "mug.png", k=3)
        answers = [Answer("mug.png", index.search([image], 3)[0])]
        expected = json.loads(as_json(index, answers, {}))
    del expected["unreadable"]
    assert reply.status == 200 and reply.json["exact"] is True
    assert reply.json == {**expected, **expected["queries"][0]}
    assert reply.json["hits"][0]["path"] == str(image) and len(reply.json["hits"]) == 3


def test_an_image_of_the_index_and_vectors_are_searched_with(photo_index: Path) -> None:
    with answering(photo_index) as client, open_index(photo_index) as index:
        (item, vector), *_, (other, last) = index
        by_item = client.send("/search", {"item": item.id, "k": 2})
        vectors = [vector.tolist(), last.tolist()]
        by_vectors = client.send("/search", {"vectors": vectors, "k": 1})
        as_form = client.upload("/search", None, item=other.id, above=0.999)
    assert by_item.json["hits"][0]["item"] == item.id and len(by_item.json["hits"]) == 2
    firsts = [query["hits"][0]["item"] for query in by_vectors.json["queries"]]
    assert firsts == [item.id, other.id] and "hits" not in by_vectors.json
    assert as_form.json["hits"][0]["item"] == other.id


def test_a_label_restricts_the_search_and_is_counted(photo_index: Path) -> None:
    labelled(photo_index, n1="mug", n7="mug")
    with answering(photo_index) as client:
        found = client.send("/search", {"item": 3, "label": "mug", "k": 5})
        labels = client.ask("GET", "/labels").json
        unknown = client.send("/search", {"item": 3, "label": "cup"})
    assert [hit["label"] for hit in found.json["hits"]] == ["mug", "mug"]
    assert labels == {"other": 7, "mug": 2}
    assert unknown.status == 400 and "the most frequent labels: 'other', 'mug'" in unknown.error


def test_an_image_is_taken_in_once_found_and_removed(photo_index: Path, tmp_path: Path) -> None:
    content = draw(tmp_path / "new.png", 77).read_bytes()
    with answering(photo_index) as client:
        added = client.upload("/items", content, "../../etc/passwd", label="vase")
        again = client.upload("/items", content)
        found = client.upload("/search", content, k=1).json["hits"][0]
        path = Path(added.json["path"])
        was_kept = path.read_bytes() == content and path.parent == photo_index / "uploads"
        removed = client.ask("DELETE", f"/items/{found['item']}")
        gone = client.ask("DELETE", f"/items/{found['item']}")
        count = client.ask("GET", "/index").json["items"]
        back = client.upload("/items", content)
    assert (added.status, again.status, back.status) == (201, 200, 201) and was_kept
    assert again.json == {**added.json, "added": False} and found["item"] == added.json["item"]
    assert found["label"] == "vase" and found["score"] == pytest.approx(1)
    assert removed.status == 204 and gone.status == 404 and count == 9
    assert len(open_index(photo_index)) == 10


def test_the_file_of_an_image_that_was_not_uploaded_is_left_alone(photo_index: Path, photos: Path) -> None:
    with answering(photo_index) as client:
        known = client.upload("/items", (photos / "class 0" / "1.png").read_bytes())
        assert known.status == 200 and known.json["path"] == str(photos / "class 0" / "1.png")
        assert client.ask("DELETE", f"/items/{known.json['item']}").status == 204
    assert (photos / "class 0" / "1.png").exists() and not (photo_index / "uploads").exists()
    assert open_index(photo_index).store.removed() == {known.json["path"]}


def test_what_another_process_changes_is_seen(photo_index: Path, photos: Path, tmp_path: Path) -> None:
    with answering(photo_index) as client:
        add_to_index(photo_index, [draw(tmp_path / "new.png", 55)])
        assert client.ask("GET", "/index").json["items"] == 10
        remove_from_index(photo_index, [photos])
        assert client.ask("GET", "/index").json["items"] == 1
        assert len(client.upload("/search", (tmp_path / "new.png").read_bytes()).json["hits"]) == 1


def test_a_change_while_another_process_changes_the_index_is_to_come_again(
    photo_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dml.index.writer.lock_folder", lambda folder: False)
    with answering(photo_index) as client:
        added = client.upload("/items", draw(tmp_path / "new.png", 55).read_bytes())
        removed = client.ask("DELETE", "/items/1")
        found = client.send("/search", {"item": 1})
    assert (added.status, removed.status, found.status) == (409, 409, 200)
    assert added.headers["retry-after"] == "1" and "being changed by another process" in added.error


def test_a_full_disk_leaves_nothing_behind(
    photo_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dml.index.writer.os.fsync", full)
    with answering(photo_index) as client:
        added = client.upload("/items", draw(tmp_path / "new.png", 55).read_bytes())
        count = client.ask("GET", "/index").json["items"]
    assert added.status == 507 and "No space left" in added.error and count == 9
    assert list((photo_index / "uploads").iterdir()) == []


def test_an_index_that_was_upgraded_to_another_model_is_not_mixed_with_this_one(
    photo_index: Path, tmp_path: Path
) -> None:
    with answering(photo_index) as client:
        info = photo_index / "index.json"
        content = json.loads(info.read_text())
        info.write_text(json.dumps({**content, "fingerprint": "0" * 64}))
        replies = [
            client.send("/search", {"item": 1}),
            client.upload("/items", draw(tmp_path / "new.png", 55).read_bytes()),
            client.ask("GET", "/health"),
        ]
    assert [reply.status for reply in replies] == [503, 503, 503]
    assert "upgraded" in replies[0].error and "start the service again" in replies[1].error


def test_thumbnails_are_small_images_and_missing_files_are_said(photo_index: Path, photos: Path) -> None:
    Image.new("RGB", (1200, 300), "red").save(photos / "wide.png")
    add_to_index(photo_index, [photos / "wide.png"])
    with answering(photo_index) as client:
        reply = client.ask("GET", "/items/10/thumbnail")
        (photos / "wide.png").unlink()
        replies = [client.ask("GET", f"/items/{name}/thumbnail") for name in ("10", "999", "..%2f..%2fx")]
    assert reply.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(reply.body)).size == (320, 80)
    assert [reply.status for reply in replies] == [404, 404, 404]
    assert "wide.png" in replies[0].error and "no item 999" in replies[1].error


BAD = {
    "k beyond the index": ({"item": 1, "k": 99}, 400, "ask for 1 to 9"),
    "k no number": ({"item": 1, "k": "many"}, 400, "k='many': give a number"),
    "k a part": ({"item": 1, "k": 1.5}, 400, "give a whole number"),
    "k above the limit": ({"item": 1, "k": 5000}, 413, "at most 1,000"),
    "above": ({"item": 1, "above": True}, 400, "give a number"),
    "label": ({"item": 1, "label": 3}, 400, "give a text"),
    "half a character": ({"item": 1, "label": "\ud800"}, 400, "give a text"),
    "a large item": ({"item": 2**52}, 404, "no item 4503599627370496"),
    "a larger item": ({"item": 10**400}, 400, "give a number"),
    "no item": ({"item": 99}, 404, "no item 99"),
    "nothing": ({}, 400, "neither vectors nor an item"),
    "a list": ([1], 400, "give an object"),
    "ragged": ({"vectors": [[1.0], [1.0, 2.0]]}, 400, "no list of lists of numbers"),
    "one vector": ({"vectors": [1.0, 2.0]}, 400, "give a list of one vector"),
    "dimension": ({"vectors": [[1.0, 0.0]]}, 400, "have 8 dimensions"),
    "length": ({"vectors": [[1.0] * 8]}, 400, "has the length 2.828: give unit vectors"),
    "NaN": ({"vectors": [[float("nan")] * 8]}, 400, "NaN"),
    "too many": ({"vectors": [[1.0] * 8] * 101}, 413, "at most 100 at a time"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_search_that_cannot_be_answered_says_why(client: Client, name: str) -> None:
    values, status, reason = BAD[name]
    reply = client.send("/search", values)
    assert reply.status == status and reason in reply.error


def test_a_file_whose_name_is_no_utf_8_is_found(photo_index: Path, photos: Path) -> None:
    odd = os.fsdecode(os.fsencode(photos) + b"/caf\xe9.png")
    os.rename(photos / "class 0" / "1.png", odd)
    add_to_index(photo_index, [photos])
    with answering(photo_index) as client:
        found = client.send("/search", {"item": 2, "k": 1})
    assert found.status == 200 and found.json["hits"][0]["path"] == odd


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=x", "application/json", "\xff"]
)
@pytest.mark.parametrize(
    "body", [b"", b"--x\r\n", b"\xff\xfe", b"[" * 5000, b'{"vectors": {"a": 1}}', b"1" * 5000]
)
def test_whatever_is_sent_is_refused_in_a_sentence(client: Client, kind: str, body: bytes) -> None:
    for path in ("/search", "/items"):
        reply = client.ask("POST", path, body, {"Content-Type": kind})
        assert 400 <= reply.status < 500 and reply.error


def test_what_is_no_number_of_an_item_is_none(client: Client) -> None:
    for item in ("9" * 5000, "-1", "1.5", "%D9%A3", "x"):
        assert client.ask("DELETE", f"/items/{item}").status == 404
        assert client.ask("GET", f"/items/{item}/thumbnail").status == 404


def test_what_is_no_image_and_what_is_too_large_is_refused(client: Client, tmp_path: Path) -> None:
    big = draw(tmp_path / "big.png", 0, (80, 70)).read_bytes()
    replies = {
        415: client.upload("/search", b"hello"),
        413: client.upload("/search", big),
        400: client.ask("POST", "/search", b"hello", {"Content-Type": "image/png"}),
    }
    assert {status: reply.status for status, reply in replies.items()} == {s: s for s in replies}
    assert "cannot be read as an image" in replies[415].error
    assert "80 × 70 pixels, and this service takes 5,000" in replies[413].error
    assert "multipart/form-data" in replies[400].error
    assert client.upload("/items", b"hello").status == 415 and client.upload("/items", big).status == 413
    assert client.upload("/search", None, k=3).status == 400 and client.upload("/items", None).status == 400
    assert client.ask("POST", "/items").status == 400
    assert client.ask("POST", "/search", b"{", {"Content-Type": "application/json"}).status == 400
    assert client.ask("GET", "/nothing").status == 404 and client.ask("GET", "/search").status == 405


def test_openapi_describes_every_route_and_the_answers_have_what_it_says(client: Client) -> None:
    described = client.ask("GET", "/openapi.json").json
    routes = {
        (route.path, method.lower())
        for route in app_module.create_app(client.catalogue, limits=Limits()).routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    told = {(path, method) for path, methods in described["paths"].items() for method in methods}
    assert routes - told == {("/", "get"), ("/openapi.json", "get")} and told < routes
    schemas = described["components"]["schemas"]
    answer = client.send("/search", {"item": 1, "k": 1}).json
    assert {*schemas["Index"]["required"], "queries", *schemas["Query"]["required"]} == set(answer)
    assert set(schemas["Hit"]["properties"]) == set(answer["hits"][0])
    assert yaml.safe_dump(described) and described["info"]["version"] != "filled in"


def test_it_counts_itself(client: Client) -> None:
    assert client.ask("GET", "/health").json == {"status": "ready"}
    client.send("/search", {"item": 1})
    text = client.ask("GET", "/metrics").body.decode()
    assert 'dml_requests_total{route="search",status="200"}' in text and "dml_items 9.0" in text
    assert 'dml_request_seconds_bucket{le="0.1",route="search"}' in text and "dml_batch_queries_sum" in text


def test_queries_of_many_clients_are_answered_together_and_as_one_by_one(
    photo_index: Path, photos: Path
) -> None:
    images = sorted(photos.rglob("*.png"))
    with answering(photo_index) as client:
        alone_found = [client.upload("/search", image.read_bytes(), k=4).json["hits"] for image in images]
        busy, embed = threading.Event(), client.catalogue.embed
        sizes: list[int] = []

        def slow(squares: list[object]) -> np.ndarray:
            sizes.append(len(squares))
            busy.wait(0.3)
            return embed(squares)  # type: ignore[arg-type]

        client.catalogue.embed = slow  # type: ignore[assignment]
        found: dict[int, object] = {}
        threads = [
            threading.Thread(
                target=lambda n: found.update(
                    {n: client.upload("/search", images[n].read_bytes(), k=4).json["hits"]}
                ),
                args=(number,),
            )
            for number in range(9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(sizes) == 9 and len(sizes) < 6
    for number, expected in enumerate(alone_found):
        assert [hit["item"] for hit in found[number]] == [hit["item"] for hit in expected]  # type: ignore[attr-defined]


def test_a_defect_is_told_without_its_traceback_and_the_next_is_answered(photo_index: Path) -> None:
    with answering(photo_index) as client:
        answer = client.catalogue.answer
        client.catalogue.answer = lambda queries: 1 / 0  # type: ignore[assignment,return-value]
        broken = client.send("/search", {"item": 1})
        client.catalogue.answer = answer  # type: ignore[method-assign]
        assert broken.status == 500 and broken.json == {"error": "a defect of the service; its log says more"}
        assert client.send("/search", {"item": 1}).status == 200


def test_changes_follow_each_other_and_leave_the_index_open_to_others(
    photo_index: Path, tmp_path: Path
) -> None:
    with answering(photo_index) as client:
        for seed in range(3):
            assert client.upload("/items", draw(tmp_path / "x.png", 50 + seed).read_bytes()).status == 201
    with alone(IndexFolder(photo_index)):
        assert len(open_index(photo_index)) == 12
