"""``dml serve``: what it refuses before it listens, and one that is started as people start it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from dml.commands import app
from dml.index.building import build_index
from dml.service.serving import listening, read_token
from tests.index.conftest import draw
from tests.service.clients import form

ROOT = Path(__file__).parents[2]


def serve(*words: object) -> Result:
    return CliRunner().invoke(app, ["serve", *map(str, words)])


def test_the_commands_of_the_page_are_typed_so() -> None:
    page = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    commands = [
        shlex.split(line, comments=True) for line in re.findall(r"^ +dml (serve .*)$", page, re.MULTILINE)
    ]
    program = typer.main.get_command(app)
    for name, *words in commands:
        program.commands[name].make_context(name, words)  # type: ignore[attr-defined]
    assert len(commands) == 2


def test_others_are_let_in_with_a_token_only(tmp_path: Path) -> None:
    done = serve(tmp_path, "--host", "0.0.0.0", "--port", 0)
    assert done.exit_code == 2 and "give one by --token-file FILE" in done.stderr
    (tmp_path / "token").write_text("short\n")
    done = serve(tmp_path, "--host", "0.0.0.0", "--port", 0, "--token-file", tmp_path / "token")
    assert done.exit_code == 2 and "holds no token of at least 16" in done.stderr
    done = serve(tmp_path, "--token-file", tmp_path / "gone")
    assert done.exit_code == 2 and "gone" in done.stderr
    (tmp_path / "token").write_text("  long-enough-0123456789\n")
    assert read_token(tmp_path / "token") == "long-enough-0123456789"
    for content in ("two words and then some more", "täglich-neue-geheimnisse"):
        (tmp_path / "token").write_text(content, encoding="utf-8")
        done = serve(tmp_path, "--token-file", tmp_path / "token")
        assert done.exit_code == 2 and "without spaces" in done.stderr


def test_a_port_in_use_a_host_that_is_none_and_a_folder_that_is_no_index_are_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = serve(tmp_path, "--port", port)
    assert done.exit_code == 2 and f"port {port} of 127.0.0.1 is in use" in done.stderr
    for words, reason in (
        (("--port", 99999), "give a number from 0 to 65535"),
        (("--host", "no.such.host.invalid"), "is not known"),
        (("--host", "192.0.2.1", "--port", 0), "is no address of this machine"),
        (("--port", 0), "it has no index.json"),
        (("--queue", 0), "a limit of the service is at least 1"),
    ):
        done = serve(tmp_path, *words)
        assert done.exit_code == 2 and reason in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("localhost", True), ("127.0.0.9", True), ("0.0.0.0", False)]
)
def test_loopback_is_told_by_the_address(host: str, expected: bool) -> None:
    with listening(host, 0) as (listener, is_loopback):
        assert is_loopback is expected and listener.getsockname()[1] > 0
        assert listener.proto == socket.IPPROTO_TCP  # or each answer waits 40 ms for a packet of the client


def test_one_that_is_started_answers_until_it_is_interrupted(smoke_run: Path, tmp_path: Path) -> None:
    image = draw(tmp_path / "photos" / "a.png", 1)
    draw(tmp_path / "photos" / "b.png", 2)
    build_index(smoke_run, [tmp_path / "photos"], tmp_path / "index")
    command = [
        sys.executable,
        "-m",
        "dml",
        "serve",
        str(tmp_path / "index"),
        "--port",
        "0",
        "--device",
        "cpu",
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        assert first.startswith("exact search of 2 images, model smoke/best "), process.stderr.read()
        port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/ answers; Ctrl-C ends it\n", second)[1])  # type: ignore[index]
        body, kind = form(image.read_bytes(), k=1)
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("POST", "/search", body, {"Content-Type": kind})
        answer = connection.getresponse()
        assert answer.status == 200 and str(image).encode() in answer.read()
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0 and process.stderr.read() == ""
