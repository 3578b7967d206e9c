"""Who may ask, how much, how many at a time and for how long."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dml.errors import InputError
from dml.service.limits import Limits
from tests.service.clients import Client, answering

TOKEN = "a-token-of-a-test"
JSON = b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_a_token_is_asked_of_all_but_the_page_and_the_state_of_health(photo_index: Path) -> None:
    with answering(photo_index, token=TOKEN) as client:
        open_to_all = [client.ask("GET", path).status for path in ("/", "/health", "/openapi.json")]
        closed = [
            ("POST", "/search"),
            ("POST", "/items"),
            ("DELETE", "/items/1"),
            ("GET", "/items/1/thumbnail"),
        ]
        closed += [("GET", "/labels"), ("GET", "/index"), ("GET", "/metrics"), ("GET", "/nothing")]
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            replies = [client.ask(method, path, headers=headers) for method, path in closed]
            assert {reply.status for reply in replies} == {401}
            assert (
                replies[0].headers["www-authenticate"] == "Bearer" and "token is missing" in replies[0].error
            )
        allowed = client.ask("GET", "/index", headers={"Authorization": f"Bearer {TOKEN}"})
    assert open_to_all == [200, 200, 200] and allowed.json["items"] == 9


def test_another_name_of_this_machine_and_pages_of_others_are_refused(photo_index: Path) -> None:
    with answering(photo_index, hosts=["127.0.0.1", "localhost", "[::1]"]) as client:
        own = f"127.0.0.1:{client.port}"
        statuses = {
            host: client.ask("GET", "/index", headers={"Host": host}).status
            for host in (own, "localhost", "[::1]:80", "evil.example", "evil.example:8000", "")
        }
        pages = {
            origin: client.ask("GET", "/index", headers={"Host": own, "Origin": origin}).status
            for origin in (f"http://{own}", "http://evil.example", "null")
        }
    assert list(statuses.values()) == [200, 200, 200, 421, 421, 421]
    assert list(pages.values()) == [200, 403, 403]


def raw(client: Client, text: bytes, *, then: bytes = b"") -> bytes:
    """What comes back for bytes as they are."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall(text)
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(then)
        answer = b""
        while b"}" not in answer and (part := connection.recv(4096)):
            answer += part
        return answer


def test_a_request_that_is_too_long_is_refused_whether_it_says_so_or_not(client: Client) -> None:
    said = raw(client, JSON + b"Content-Length: 100001\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    unsaid = raw(client, JSON + b"Transfer-Encoding: chunked\r\n\r\n" + chunk, then=chunk)
    odd = raw(client, JSON + b"Content-Length: -5\r\n\r\n")
    assert b" 413 " in said and b"this service takes 100,000" in said
    assert b" 413 " in unsaid and b"more than 100,000 bytes" in unsaid
    assert b" 400 " in odd or b" 413 " in odd


def test_beyond_the_queue_others_are_told_to_come_again_and_are_answered_later(photo_index: Path) -> None:
    with answering(photo_index, limits=Limits(waiting=2)) as client:
        answer, go_on = client.catalogue.answer, threading.Event()

        def wait(queries: object) -> object:
            go_on.wait(10)
            return answer(queries)  # type: ignore[arg-type]

        client.catalogue.answer = wait  # type: ignore[assignment]
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(client.send("/search", {"item": 1}).status))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        while b"waiting 2.0" not in client.ask("GET", "/metrics").body:
            time.sleep(0.01)
        refused, healthy = client.send("/search", {"item": 1}), client.ask("GET", "/health")
        go_on.set()
        for thread in threads:
            thread.join()
        later = client.send("/search", {"item": 1})
    assert refused.status == 503 and refused.headers["retry-after"] == "1"
    assert "2 requests are being answered already" in refused.error
    assert statuses == [200, 200] and healthy.status == 200 and later.status == 200


def test_who_sends_slowly_and_who_waits_too_long_is_told(photo_index: Path) -> None:
    with answering(photo_index, limits=Limits(seconds=1)) as client:
        slow = raw(client, JSON + b"Content-Length: 9\r\n\r\n{")
        answer = client.catalogue.answer
        client.catalogue.answer = lambda queries: time.sleep(1.5) or answer(queries)  # type: ignore
        late = client.send("/search", {"item": 1})
        client.catalogue.answer = answer  # type: ignore[method-assign]
        after = client.send("/search", {"item": 1})
    assert b" 408 " in slow and b"did not arrive within 1 seconds" in slow
    assert late.status == 503 and "no answer within 1 seconds" in late.error
    assert after.status == 200


def test_answers_are_not_kept_sniffed_or_framed(client: Client) -> None:
    page = client.ask("GET", "/")
    policy = page.headers["content-security-policy"]
    assert "script-src 'sha256-" in policy and "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    for reply in (page, client.ask("GET", "/index"), client.ask("GET", "/nothing")):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"


def test_a_limit_is_at_least_one() -> None:
    with pytest.raises(InputError, match="waiting=0: a limit of the service is at least 1"):
        Limits(waiting=0)
