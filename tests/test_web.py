"""HTTP keeps out whoever has no business here, gives nothing beyond its routes, and is held up by no client."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bridge import audience, webserver
from bridge.config import folders
from bridge.errors import ConfigError
from bridge.ledger import utc_now
from bridge.manifest import Manifest, ManifestArtifact, ManifestBounce, Software, write_manifest
from bridge.types import Bounce, Job, Preset, StageEvent
from tests.fakes import FakeSettings
from tests.served import WAIT_S, Served, served

SECRET = b"what stands outside of the outbox"
ROUTES = {
    "GET /health",
    "GET /jobs",
    "GET /jobs/{id}",
    "GET /events",
    "GET /returned",
    "GET /returned/{id}/{artifact}",
    "GET /live",
    "POST /jobs",
    "POST /jobs/{id}/cancel",
    "POST /jobs/{id}/retry",
    "POST /live/controls",
}


@pytest.fixture
def home(dawbridge_home: Path) -> Path:
    return dawbridge_home


@pytest.fixture
def web(home: Path) -> Iterator[Served]:
    with served(home / "outbox") as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests that change nothing, with a job and a song, and a secret beside its outbox."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DAWBRIDGE_HOME", str(home))
        with served(home / "outbox") as running:
            a_song(running.outbox)
            a_job(running)
            (home / "secret.txt").write_bytes(SECRET)
            yield running


@pytest.fixture
def door(shared: Served) -> Served:
    """The shared server, of which nothing was asked yet."""
    shared.control.asked.clear()
    return shared


def a_job(web: Served, job_id: str = "abc", name: str = "Song.wav") -> None:
    bounce = Bounce(Path("x.wav"), name, "f" * 64, "mix", 48_000, 2, 96_000)
    job = Job(
        job_id, bounce, Preset("offline", {"separate": FakeSettings()}), web.outbox, "queued", utc_now()
    )
    web.ledger.add_job(job, Path("/in/Song.wav"))
    web.ledger.record(StageEvent(job_id, "separate", "running", 1.0, 4.0))


def a_song(outbox: Path, name: str = "Song", song_id: str = "abc", **paths: str) -> Path:
    folder = outbox / name
    folder.mkdir()
    artifacts = []
    for artifact, path in (paths or {"vocals": "Song_vocals.wav"}).items():
        artifacts.append(ManifestArtifact(artifact, "audio", path, "0" * 64))
        if not (folder / path).exists():
            (folder / path).write_bytes(bytes(range(256)))
    bounce = ManifestBounce("Song.wav", "0" * 64, "mix", 48_000, 2, 96_000, 0)
    manifest = Manifest(
        1, song_id, 1, utc_now(), bounce, "offline", {}, None, None, None, tuple(artifacts), (), (), None,
        Software("0.1.0"),
    )  # fmt: skip
    write_manifest(folder, manifest)
    return folder


def soon(found: Callable[[], Any], seconds: float = WAIT_S) -> Any:
    until_s = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until_s, "it did not come"
        time.sleep(0.02)
    return value


def is_ended(connection: socket.socket) -> bool:
    """Whether the server has hung up; what it sent before is thrown away."""
    while select.select([connection], [], [], 0)[0]:
        try:
            if not connection.recv(1 << 16):
                return True
        except OSError:
            return True
    return False


# who may come in


def test_the_routes_are_those_of_the_contract_and_no_more(door: Served) -> None:
    found = set()
    for path in ("/health", "/jobs", "/jobs/x", "/events", "/returned", "/returned/x/y", "/live", "/live/controls",
                 "/jobs/x/cancel", "/jobs/x/retry"):  # fmt: skip
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            if (method, path) == ("GET", "/events"):  # would go on for ever
                found.add("GET /events")
                continue
            status, _, raw = door.raw(method, path)
            if status != 405 and json.loads(raw).get("code") != "route":
                shape = path.replace("/x/y", "/{id}/{artifact}").replace("/x", "/{id}")
                found.add(f"{method} {shape}")
    assert found == ROUTES
    for path in ("/", "/docs", "/openapi.json", "/jobs/", "//jobs", "/health/x", "/static/x", "/JOBS"):
        assert door.ask("GET", path)[0] == 404, path


WRONG_TOKENS = (
    None,
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong",
    "Basic {token}",
    "{token}",
    "Bearer {token}x",
    "Bearer {shorter}",
    "Bearer ünïcode",
    "Bearer {token}, Bearer {token}",
)


@pytest.mark.parametrize("given", WRONG_TOKENS)
def test_without_the_right_token_every_route_is_closed_but_that_it_is_there(
    door: Served, given: str | None
) -> None:
    assert door.token is not None
    headers = door.headers()
    del headers["Authorization"]
    if given is not None:
        headers["Authorization"] = given.format(token=door.token, shorter=door.token[:-1])
    for route in sorted(ROUTES - {"GET /health"}):
        method, path = route.replace("{id}", "abc").replace("{artifact}", "vocals").split()
        status, answered, raw = door.raw(method, path, {} if method == "POST" else None, headers)
        assert (status, json.loads(raw)["code"]) == (401, "token"), route
        assert answered["www-authenticate"] == "Bearer"
    assert door.ask("GET", "/health", headers=headers) == (200, {"ok": True})
    assert door.control.asked == []


def test_with_the_token_health_tells_version_and_scripts(door: Served) -> None:
    status, told = door.ask("GET", "/health", headers=door.headers(Authorization=f"bearer {door.token}"))
    assert status == 200
    assert (told["ok"], told["pid"]) == (True, os.getpid())
    assert told["version"] and told["scripts"]


def test_where_no_token_is_needed_none_is_asked_for_but_foreign_pages_stay_outside(home: Path) -> None:
    with served(home / "outbox", token_needed=False) as web:
        assert web.token is None
        headers = {"Host": f"localhost:{web.port}"}
        assert web.ask("GET", "/jobs", headers=headers) == (200, {"jobs": []})
        evil = {**headers, "Origin": "https://evil.example"}
        assert web.ask("GET", "/jobs", headers=evil)[0] == 403


HOSTILE_HOSTS = (
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "localhost.evil.example:{port}",
    "evil.example@127.0.0.1:{port}",
    "127.0.0.1:{port}@evil.example",
    "127.0.0.1:1",
    "127.0.0.1:{port}/",
    "127.0.0.1:{port}:{port}",
    "127.0.0.1, evil.example",
    "[::1].evil.example:{port}",
    "[::1",
    "192.168.1.5:{port}",
    "0.0.0.0:{port}",
    "2130706433:{port}",
    "127.1:{port}",
    "localhost.:{port}",
    "",
)


@pytest.mark.parametrize("host", HOSTILE_HOSTS)
def test_a_name_that_is_not_ours_is_refused_whatever_else_is_right(door: Served, host: str) -> None:
    status, told = door.ask("GET", "/jobs", headers=door.headers(Host=host.format(port=door.port)))
    assert (status, told["ok"], told["code"]) == (403, False, "host")
    assert door.ask("GET", "/health", headers={"Host": host.format(port=door.port)})[0] == 403


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}", "[::1]:{port}", "localhost"]
)
def test_our_own_names_are_let_in(door: Served, host: str) -> None:
    assert door.ask("GET", "/jobs", headers=door.headers(Host=host.format(port=door.port)))[0] == 200


def test_no_host_or_two_of_them_are_refused(door: Served) -> None:
    for lines in (b"", b"Host: 127.0.0.1:%d\r\nHost: evil.example\r\n" % door.port):
        with door.connect() as connection:
            connection.sendall(
                b"GET /jobs HTTP/1.0\r\nAuthorization: Bearer %s\r\n%s\r\n"
                % ((door.token or "").encode(), lines)
            )
            assert connection.recv(1 << 16).split()[1] in (b"403", b"400")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example:{port}",
        "null",
        "",
        "file://",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1",
        "http://localhost:{port}",
        "http://127.0.0.1:{port}/",
        "http://127.0.0.1:{port}.evil.example",
        "http://evil.example, http://127.0.0.1:{port}",
    ],
)
def test_a_foreign_page_is_refused_even_with_the_token(door: Served, origin: str) -> None:
    headers = door.headers(Origin=origin.format(port=door.port))
    for method, path in (
        ("GET", "/jobs"),
        ("GET", "/health"),
        ("POST", "/jobs/abc/cancel"),
        ("OPTIONS", "/jobs"),
    ):
        status, told = door.ask(method, path, headers=headers)
        assert (status, told["code"]) == (403, "origin"), (method, path)
    assert door.control.asked == []


def test_the_same_origin_is_let_in_and_no_answer_invites_others(door: Served) -> None:
    origin = f"http://127.0.0.1:{door.port}"
    status, headers, _ = door.raw("GET", "/jobs", headers=door.headers(Origin=origin))
    assert status == 200
    assert not [name for name in headers if name.lower().startswith("access-control-")]
    assert headers["x-content-type-options"] == "nosniff"


def test_a_daemon_on_all_addresses_knows_addresses_and_its_own_name_but_no_other(home: Path) -> None:
    with served(home / "outbox", host="0.0.0.0", announce=False) as web:
        own = socket.gethostname().lower()
        for host in ("192.168.1.5", "127.0.0.1", own, f"{own}.local"):
            assert web.ask("GET", "/jobs", headers=web.headers(Host=f"{host}:{web.port}"))[0] == 200, host
        for host in ("evil.example", f"{own}.evil.example", "1.2.3.4.evil.example"):
            assert web.ask("GET", "/jobs", headers=web.headers(Host=f"{host}:{web.port}"))[0] == 403, host


# where it is


def test_port_and_token_stand_in_a_file_for_the_users_eyes_only_while_it_runs(home: Path) -> None:
    tokens = set()
    for _ in range(2):
        with served(home / "outbox") as web:
            told = json.loads(folders().http_state.read_text())
            mode = stat.S_IMODE(folders().http_state.stat().st_mode)
            assert (told["url"], told["port"], told["token"]) == (web.url, web.port, web.token)
            assert mode == 0o600 or os.name == "nt"
            assert (told["schema"], told["host"], told["pid"]) == (1, "127.0.0.1", os.getpid())
            assert web.token is not None and len(web.token) >= 43
            tokens.add(web.token)
            assert web.told == []  # nothing of it is told to whoever reads the daemon's output
        assert not folders().http_state.exists()
    assert len(tokens) == 2


def test_a_port_that_is_taken_is_told_with_the_setting(web: Served, home: Path) -> None:
    with (
        pytest.raises(ConfigError, match=rf"port {web.port} of 127.0.0.1 can't be had .*http\.port = 0"),
        served(home / "outbox", port=web.port),
    ):
        pass


# what is told


def test_jobs_are_told_with_their_stages(door: Served) -> None:
    status, told = door.ask("GET", "/jobs")
    (job,) = told["jobs"]
    assert (status, job["id"], job["state"], job["stages"][0]["stage"]) == (200, "abc", "queued", "separate")
    assert door.ask("GET", "/jobs/abc") == (200, job)
    status, told = door.ask("GET", "/jobs/nobody")
    assert (status, told["code"]) == (404, "unknown_job")


def test_what_is_no_text_comes_back_in_an_answer_that_can_be_read(door: Served) -> None:
    status, told = door.ask("POST", "/jobs", {"\udcff": 1})
    assert status == 400
    assert "Unknown key '\\udcff'" in told["detail"]


def test_what_came_back_is_told_and_its_files_are_served_whole_and_in_parts(door: Served) -> None:
    status, told = door.ask("GET", "/returned")
    (song,) = told["returned"]
    assert (status, song["id"], song["folder"], song["artifacts"][0]["name"]) == (
        200,
        "abc",
        "Song",
        "vocals",
    )
    status, headers, raw = door.raw("GET", "/returned/abc/vocals")
    assert (status, raw, headers["content-length"]) == (200, bytes(range(256)), "256")
    assert (headers["content-type"], headers["x-content-type-options"]) == ("audio/wav", "nosniff")
    assert headers["content-disposition"] == 'attachment; filename="Song_vocals.wav"'
    status, headers, raw = door.raw("GET", "/returned/abc/vocals", headers=door.headers(Range="bytes=10-19"))
    assert (status, raw, headers["content-range"]) == (206, bytes(range(10, 20)), "bytes 10-19/256")
    assert door.raw("GET", "/returned/abc/vocals", headers=door.headers(Range="bytes=999-"))[0] == 416


def test_without_a_companion_live_is_nothing_and_its_controls_say_so(web: Served) -> None:
    assert web.ask("GET", "/live") == (200, {"live": None})
    orders: list[dict[str, Any]] = [{"name": "mode", "value": "loop"}, {"command": "panic"}]
    for body in orders:
        status, told = web.ask("POST", "/live/controls", body)
        assert (status, told["code"]) == (409, "not_running")
    for body in (
        {"name": "mode"},
        {"command": "song"},
        {"command": ["x"]},
        {"name": 3, "value": 1},
        {"folder": "/"},
    ):
        status, told = web.ask("POST", "/live/controls", body)
        assert (status, told["code"]) == (400, "usage"), body


def test_cancel_retry_and_take_reach_the_daemon(web: Served) -> None:
    a_job(web)
    assert web.ask("POST", "/jobs/abc/cancel")[0] == 200
    assert web.ask("POST", "/jobs/abc/retry", {})[0] == 200
    body = {"path": str(web.outbox.parent / "inbox" / "Song.wav"), "preset": "offline", "role": "drums"}
    assert web.ask("POST", "/jobs", body) == (200, {"ok": True, "job": "new", "state": "queued"})
    assert web.control.asked == [
        {"name": "cancel", "job": "abc"},
        {"name": "retry", "job": "abc"},
        {"name": "take", **body},
    ]


# what comes from outside

TRAVERSALS = (
    "..",
    "../secret.txt",
    "../../secret.txt",
    "..%2f..%2fsecret.txt",
    "%2e%2e%2f%2e%2e%2fsecret.txt",
    "%252e%252e%252fsecret.txt",
    "..\\..\\secret.txt",
    "..%5c..%5csecret.txt",
    "....//secret.txt",
    "%c0%ae%c0%ae%c0%afsecret.txt",
    "%00",
    "vocals%00.txt",
    "Song_vocals.wav",
    "Song",
    ".",
    "%2fetc%2fpasswd",
    "/etc/passwd",
    "C:%5csecret.txt",
    "manifest.json",
    "%ff%fe",
    "%ed%a0%80",
    "x" * 5000,
)


@pytest.mark.parametrize("given", TRAVERSALS)
def test_no_parameter_leads_out_of_the_outbox(door: Served, given: str) -> None:
    for path in (
        f"/returned/abc/{given}",
        f"/returned/{given}/vocals",
        f"/returned/{given}/{given}",
        f"/jobs/{given}",
        f"/{given}",
    ):
        status, _, raw = door.raw("GET", path)
        assert status in (400, 404), path
        assert SECRET not in raw and b"root:" not in raw
        assert json.loads(raw)["ok"] is False
    for path in (f"/jobs/{given}/cancel", f"/jobs/{given}/retry"):
        assert door.raw("POST", path)[0] in (400, 404), path
    assert door.control.asked == []


@pytest.mark.parametrize("path", ["x.wav", "", "../x.wav", "/in/\0.wav", "/in/\ud800.wav", 3, None, ["/x"]])
def test_a_path_that_is_no_whole_plain_path_is_not_even_passed_on(door: Served, path: Any) -> None:
    body = {"path": path}
    status, told = door.ask("POST", "/jobs", body)
    assert (status, told["code"]) == (400, "usage")
    assert door.control.asked == []


def test_a_link_or_a_manifest_that_leads_out_of_the_outbox_gives_nothing(web: Served, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_bytes(SECRET)
    folder = a_song(web.outbox, "Linked", "linked", vocals="a.wav", inside="b.wav")
    (folder / "a.wav").unlink()
    (folder / "a.wav").symlink_to(secret)
    (folder / "b.wav").unlink()
    (folder / "b.wav").symlink_to(folder / "manifest.json")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    a_song(elsewhere, "Away", "away")
    (web.outbox / "Away").symlink_to(elsewhere / "Away", target_is_directory=True)
    lying = a_song(web.outbox, "Lying", "lying")
    told = json.loads((lying / "manifest.json").read_text())
    told["artifacts"][0]["path"] = "../../secret.txt"
    (lying / "manifest.json").write_text(json.dumps(told))
    assert web.ask("GET", "/returned/linked/vocals")[1]["code"] == "gone"
    assert web.raw("GET", "/returned/linked/inside")[0] == 200
    assert web.ask("GET", "/returned/away/vocals")[1]["code"] == "gone"
    assert web.ask("GET", "/returned/lying/vocals")[1]["code"] == "unknown_song"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[1]", "no JSON object"),
        (b"[" * 60_000, "no JSON"),
        (b'{"path": NaN}', "NaN"),
        (b'{"path": ' + b"9" * 5000 + b"}", "no JSON"),
        (b'{"path": "/x.wav", "shell": "rm"}', "Unknown key 'shell'"),
        (b'{"path": "/x.wav", "role": "conductor"}', "role must be one of"),
    ],
)
def test_a_body_that_is_nonsense_is_refused_with_the_reason(door: Served, body: bytes, says: str) -> None:
    status, told = door.ask("POST", "/jobs", body)
    assert (status, told["ok"]) == (400, False)
    assert says in told["detail"]


def test_a_body_that_a_foreign_form_could_send_is_refused(door: Served) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        headers = door.headers(**{"Content-Type": kind})
        assert door.ask("POST", "/jobs", {"path": "/x.wav"}, headers)[0] == 415
    assert door.control.asked == []


@pytest.mark.parametrize(
    "method_and_path", ["POST /jobs", "POST /jobs/abc/cancel", "GET /jobs", "POST /nowhere"]
)
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("has_token", [True, False])
def test_ten_megabytes_are_refused_and_not_kept(
    door: Served, method_and_path: str, is_chunked: bool, has_token: bool
) -> None:
    head = f"{method_and_path} HTTP/1.1\r\nHost: 127.0.0.1:{door.port}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {door.token}\r\n" if has_token else ""
    block = b" " * 100_000
    with door.connect() as connection:
        if is_chunked:
            connection.sendall((head + "Transfer-Encoding: chunked\r\n\r\n").encode())
            blocks = [b"%x\r\n%s\r\n" % (len(block), block)] * 100 + [b"0\r\n\r\n"]
        else:
            connection.sendall((head + f"Content-Length: {100 * len(block)}\r\n\r\n").encode())
            blocks = [block] * 100
        with contextlib.suppress(OSError):  # it may hang up before all is sent
            for piece in blocks:
                connection.sendall(piece)
        status = int(connection.recv(1 << 16).split()[1])
    if not is_chunked:
        assert status == 413
    elif not has_token:
        assert status == 401
    else:
        assert status == {"POST /nowhere": 404, "GET /jobs": 200}.get(method_and_path, 413)
    assert door.control.asked == []


def test_a_client_that_asks_before_it_sends_is_told_no_at_once(door: Served) -> None:
    with door.connect() as connection:
        connection.sendall(
            f"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1:{door.port}\r\nAuthorization: Bearer {door.token}\r\n"
            "Expect: 100-continue\r\nContent-Length: 10000000\r\n\r\n".encode()
        )
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413")


def test_a_head_without_end_is_refused(door: Served) -> None:
    with door.connect() as connection, contextlib.suppress(OSError):
        connection.sendall(b"GET /health HTTP/1.1\r\n" + b"X: " + b"y" * 200_000)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400")
    assert door.ask("GET", "/health")[0] == 200


def test_the_same_connection_serves_one_request_after_the_other_also_after_an_error(door: Served) -> None:
    with door.connect() as connection:
        reader = connection.makefile("rb")
        for path, wanted in (("/jobs", b"200"), ("/nowhere", b"404"), ("/jobs/x", b"404"), ("/jobs", b"200")):
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{door.port}\r\nAuthorization: Bearer {door.token}\r\n\r\n".encode()
            )
            assert reader.readline().split()[1] == wanted
            length = 0
            while (line := reader.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert len(reader.read(length)) == length


# slow clients


def test_head_gets_the_head_alone_and_the_connection_serves_on(door: Served) -> None:
    with door.connect() as connection:
        for path in ("/health", "/jobs", "/returned/abc/vocals", "/live", "/nothing", "/events"):
            heard = b""
            for method in ("HEAD", "GET"):
                head = f"{method} {path if method == 'HEAD' else '/health'} HTTP/1.1\r\nHost: localhost\r\n"
                connection.sendall(f"{head}Authorization: Bearer {door.token}\r\n\r\n".encode())
            heard = read_until(connection, b'"scripts"')
            assert heard.count(b"HTTP/1.1 ") == 2, path
            assert heard.split()[1] == (b"404" if path == "/nothing" else b"200"), path


def test_hundreds_of_half_open_connections_leave_room_for_an_honest_client(web: Served) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(web.connect()) for _ in range(300)]
        for number, connection in enumerate(slow):
            with contextlib.suppress(OSError):
                connection.sendall(b"POST /jobs HTTP/1.1\r\nHost: x\r\n"[: number % 30])
        started_s = time.monotonic()
        assert web.ask("GET", "/health")[0] == 200
        assert time.monotonic() - started_s < 2.0
        # Long before their time to ask is over: room was needed.
        soon(lambda: sum(map(is_ended, slow)) >= 300 - webserver.MAX_CONNECTIONS, webserver.ASKING_S / 2)
        assert web.ask("GET", "/jobs")[0] == 200


def test_connections_that_never_ask_are_ended(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webserver, "ASKING_S", 0.6)
    with served(home / "outbox") as web, web.connect() as silent, web.connect() as half:
        half.sendall(b"GET /health HTTP/1.1\r\nHo")
        assert not is_ended(silent) and not is_ended(half)
        soon(lambda: is_ended(silent) and is_ended(half), 5.0)


@pytest.mark.parametrize("part", ["head", "body", "chunks"])
def test_a_client_that_drips_is_ended_though_it_never_pauses(
    home: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(webserver, "ASKING_S", 0.6)
    with served(home / "outbox") as web, web.connect() as connection:
        head = f"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\nAuthorization: Bearer {web.token}\r\n"
        drip = b"x"
        if part == "body":
            head += "Content-Length: 60000\r\n\r\n"
        elif part == "chunks":
            head, drip = (
                head.replace("/jobs", "/nowhere") + "Transfer-Encoding: chunked\r\n\r\n",
                b"1\r\nx\r\n",
            )
        else:
            head += "X: "
        connection.sendall(head.encode())

        def drip_on() -> bool:
            with contextlib.suppress(OSError):
                connection.sendall(drip)
            return is_ended(connection)

        soon(drip_on, 8.0)


def test_a_client_that_takes_nothing_of_its_answer_is_ended(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webserver, "STALL_S", 0.5)
    with served(home / "outbox") as web:
        folder = a_song(web.outbox)
        with (folder / "Song_vocals.wav").open("wb") as file:
            file.truncate(64 << 20)
        with web.connect() as connection:
            connection.sendall(
                f"GET /returned/abc/vocals HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n"
                f"Authorization: Bearer {web.token}\r\n\r\n".encode()
            )
            time.sleep(2.0)
            taken = 0
            with contextlib.suppress(OSError):
                while block := connection.recv(1 << 20):
                    taken += len(block)
            assert taken < 64 << 20
        assert web.ask("GET", "/health")[0] == 200


# events


def listen(web: Served) -> socket.socket:
    connection = web.connect()
    connection.sendall(
        f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\nAuthorization: Bearer {web.token}\r\n\r\n".encode()
    )
    return connection


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    heard = b""
    while wanted not in heard:
        block = connection.recv(1 << 16)
        assert block, heard
        heard += block
    return heard


def test_what_the_daemon_tells_is_heard_by_every_listener_from_any_thread(web: Served) -> None:
    with listen(web) as one, listen(web) as two:
        for connection in (one, two):
            assert b"text/event-stream" in read_until(connection, b"retry: 2000")
        message = {"event": "queued", "id": "abc", "name": "two\nlines \udcff"}
        thread = threading.Thread(target=web.tell, args=(message,))
        thread.start()
        thread.join()
        for connection in (one, two):
            heard = read_until(connection, b"\n\n").decode()
            assert "id: 1\nevent: queued\n" in heard
            data = next(line for line in heard.splitlines() if line.startswith("data: "))
            assert json.loads(data.removeprefix("data: ")) == message
    assert web.told == [message]


def test_a_listener_hears_a_heartbeat_where_nothing_happens(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience.Audience.__init__, "__kwdefaults__", {"heartbeat_s": 0.1})
    with served(home / "outbox") as web, listen(web) as connection:
        read_until(connection, b": nothing new")


def test_a_listener_that_never_reads_is_hung_up_on_and_holds_nobody_up(web: Served) -> None:
    with listen(web) as deaf, listen(web) as awake:
        read_until(deaf, b"retry: 2000")
        read_until(awake, b"retry: 2000")
        big = "x" * 20_000
        heard = b""
        slowest_s = 0.0
        for number in range(1500):
            started_s = time.monotonic()
            web.tell({"event": "stage", "number": number, "detail": big})
            slowest_s = max(slowest_s, time.monotonic() - started_s)
            heard = heard[-100:] + read_until(awake, b"\n\n")
        assert slowest_s < 0.5
        heard += b"" if b'"number": 1499' in heard else read_until(awake, b'"number": 1499')
        taken = 0
        with contextlib.suppress(OSError):
            while block := deaf.recv(1 << 20):
                taken += len(block)
        assert taken < 1500 * len(big)
        assert web.ask("GET", "/health")[0] == 200


def test_only_so_many_may_listen_at_a_time_and_a_place_is_free_when_one_leaves(web: Served) -> None:
    with contextlib.ExitStack() as stack:
        all_of_them = [stack.enter_context(listen(web)) for _ in range(audience.MAX_CLIENTS)]
        for connection in all_of_them:
            read_until(connection, b"retry: 2000")
        status, told = web.ask("GET", "/events")
        assert (status, told["code"]) == (503, "busy")
        all_of_them[0].close()

        def is_heard() -> bool:
            with listen(web) as connection:
                return b" 200 " in connection.recv(1 << 16)

        soon(is_heard)


def test_the_end_of_the_daemon_ends_every_stream_also_of_a_client_that_never_reads(home: Path) -> None:
    with contextlib.ExitStack() as stack:
        with served(home / "outbox") as web:  # it checks that the end comes soon
            deaf, awake = stack.enter_context(listen(web)), stack.enter_context(listen(web))
            read_until(awake, b"retry: 2000")
            for number in range(200):
                web.tell({"event": "stage", "number": number, "detail": "x" * 40_000})
                read_until(awake, b"\n\n")
        soon(lambda: is_ended(awake) and is_ended(deaf))


def test_quoted_names_are_found_as_they_are_called(web: Served) -> None:
    a_song(web.outbox, "My Söng", "abc", **{"a b": "a b.wav"})
    assert web.raw("GET", f"/returned/abc/{quote('a b')}")[0] == 200
