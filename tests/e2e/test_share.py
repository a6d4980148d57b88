"""`loam serve --share-models` and `loam pull --from`: models from one machine to another, for those with a key."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from conftest import Loam
from fake_hub import FakeHub, Repo
from golden import tiny, to_gguf
from servers import FAKE, Server, environment

KEY = "loam-secret"
ID = "mlx-community/tiny"


@pytest.fixture(scope="module")
def home(tmp_path_factory, loam):
    """The sharing machine: a model from the hub, one in its store, one whose hashes nobody knows."""
    home = tmp_path_factory.mktemp("peer")
    folder = tiny.make(home / "m", tiny.FAMILIES["llama"], tiny.STORAGES["f32"])
    to_gguf.convert(folder, home / "t.gguf", to_gguf.T.Q8_0, "{{ messages[0].content }}")
    here = Loam(home)
    here("import", home / "t.gguf", "--name", "org/stored:8b")
    here("import", home / "t.gguf", "--name", "unlisted")
    (home / "loam/models/unlisted/loam.json").unlink()
    hub = FakeHub()
    hub.repos[ID] = Repo({p.name: p.read_bytes() for p in folder.iterdir()})
    here("pull", ID, env={"HF_ENDPOINT": hub.url})
    hub.close()
    return home


@pytest.fixture(scope="module")
def peer(home):
    s = Server(FAKE, home / "m", "--port", 0, "--share-models", env=environment(home, LOAM_API_KEY=KEY))
    yield s
    assert s.stop() == 0


@pytest.fixture
def here(tmp_path):
    loam = Loam(tmp_path)
    loam.env["LOAM_API_KEY"] = KEY
    return loam


def get(peer, path, method="GET", key=KEY, **headers):
    return peer.request(method, "/share/" + path, headers={"Authorization": f"Bearer {key}", **headers} if key else headers)


def contents(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in pathlib.Path(folder).iterdir()}


def test_off_by_default_and_only_with_a_key(loam, home, peer):
    plain = Server(FAKE, home / "m", "--port", 0, env=environment(home, LOAM_API_KEY=KEY))
    try:
        assert get(plain, "api/models")[0] == 404
        said = loam("pull", "--from", plain.url, "--retries", 0, env={"LOAM_API_KEY": KEY}, ok=False)
        assert said.returncode == 1 and "--share-models" in said.stderr
    finally:
        assert plain.stop() == 0
    done = loam("serve", "-m", home / "m", "--port", 0, "--share-models", ok=False)
    assert done.returncode == 1 and "--api-key-file" in done.stderr
    for key in (None, "loam-other"):
        for path in ("api/models", f"api/models/{ID}", f"{ID}/resolve/main/config.json"):
            assert get(peer, path, key=key)[0] == 401
    assert "LOAM_API_KEY" in loam("pull", "--from", peer.url, ok=False).stderr
    assert loam("pull", ID, "--from", peer.url, ok=False).returncode == 1


def test_list(here, peer):
    lines = here("pull", "--from", peer.url).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["org/stored:8b", ID]


def test_hub_model_goes_to_the_cache(here, home, peer):
    told = here.json("pull", ID, "--from", peer.url, "--part-bytes", 65536, "--json")
    origin = Loam(home).json("show", ID, "--json")["path"]
    assert contents(told["path"]) == contents(origin) and pathlib.Path(told["path"]).name == pathlib.Path(origin).name
    assert here.json("show", ID, "--json")["family"] == "llama"
    assert here("verify", ID).returncode == 0
    assert here.json("pull", ID, "--from", peer.url, "--json")["fetched_bytes"] == 0


def test_store_model_goes_to_the_store(here, home, peer):
    told = here.json("pull", "org/stored:8b", "--from", peer.url, "--json")
    theirs, ours = contents(home / "loam/models/org/stored:8b"), contents(told["path"])
    assert {k: v for k, v in ours.items() if k != "loam.json"} == {k: v for k, v in theirs.items() if k != "loam.json"}
    listed = json.loads((pathlib.Path(told["path"]) / "loam.json").read_text())
    assert listed["source"] == peer.url and {n: f["sha256"] for n, f in listed["files"].items()} == {k: v for k, v in ours.items() if k != "loam.json"}
    assert here("verify", "org/stored:8b").returncode == 0
    assert "--force" in here("pull", "org/stored:8b", "--from", peer.url, ok=False).stderr
    here("pull", "org/stored:8b", "--from", peer.url, "--force")
    assert [p.name for p in (here.home / "loam/models").iterdir()] == ["org"]


def test_what_is_damaged_there_does_not_come_here(here, home, peer):
    weights = home / "loam/models/org/stored:8b/model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    try:
        done = here("pull", "org/stored:8b", "--from", peer.url, ok=False)
    finally:
        weights.write_bytes(data)
    assert done.returncode == 1 and "damaged" in done.stderr and "model.safetensors" in done.stderr
    assert here.json("ls", "--json") == []
    here("pull", "org/stored:8b", "--from", peer.url)


def test_huggingface_hub_copies_too(home, peer, tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    env |= {"HF_ENDPOINT": peer.url + "/share", "HF_HOME": str(tmp_path), "HF_TOKEN": KEY}
    code = f"import huggingface_hub as h; print(h.hf_hub_download({ID!r}, 'model.safetensors'))"
    done = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert pathlib.Path(done.stdout.strip()).read_bytes() == (home / "m/model.safetensors").read_bytes()


def test_ranges(home, peer):
    path, data = f"{ID}/resolve/main/config.json", (home / "m/config.json").read_bytes()
    n = len(data)
    for asked, status, want in (("bytes=0-9", 206, data[:10]), (f"bytes={n - 1}-", 206, data[-1:]), (f"bytes=5-{n + 99}", 206, data[5:]),
                                (f"bytes={n}-", 416, None), ("bytes=9-2", 200, data), ("bytes=-5", 200, data), ("lines=1-2", 200, data),
                                ("bytes=0-1,4-5", 200, data), ("bytes=99999999999999999999-", 200, data)):
        got = get(peer, path, Range=asked)
        body = got[2] if isinstance(got[2], bytes) else None
        assert got[0] == status and (want is None or body == want), asked
        assert status != 206 or int(got[1]["Content-Length"]) == len(want)
    status, headers, body = get(peer, path, method="HEAD")
    assert (status, int(headers["Content-Length"]), body) == (200, n, b"")
    assert headers["ETag"].strip('"') == os.readlink(Loam(home).json("show", ID, "--json")["path"] + "/config.json").split("/")[-1]


@pytest.mark.parametrize("path", [
    "", "api", "api/models/", "api/models/none", "api/models/unlisted", "api/models/..", "api/models/../m", "api/models/%2e%2e/m",
    f"api/models/{ID}/revision/none", f"api/models/{ID}/revision/..", f"{ID}/resolve/main/../config.json", f"{ID}/resolve/main/%2e%2e/refs",
    f"{ID}/resolve/..%2f..%2f/config.json", f"{ID}/resolve/main/none", f"{ID}/resolve/main/", f"{ID}/resolve/main//etc/passwd",
    "unlisted/resolve/main/config.json", "org/stored:8b/resolve/main/loam.json", "/etc/resolve/main/passwd", "./m/resolve/main/config.json",
    "org/resolve/main/config.json", f"{ID}/resolve/main/{'x' * 3000}", "a%00b/resolve/main/c",
])
def test_nothing_else_is_served(home, peer, path):
    status, _, body = get(peer, path)
    assert status in (404, 400, 429), body


def test_links_lead_nowhere_else(home, peer):
    """A link in a snapshot that is none of the cache's own is not followed."""
    snapshot = pathlib.Path(Loam(home).json("show", ID, "--json")["path"])
    secret = home / "secret"
    secret.write_text("s")
    for n, target in enumerate((str(secret), "../../../../../../secret", "../../refs/main", "../../blobs/../refs/main", f"../../../../../{'a' * 40}")):
        link = snapshot / f"link{n}.json"
        link.symlink_to(target)
        try:
            assert get(peer, f"{ID}/resolve/main/link{n}.json")[0] == 404
            assert link.name not in json.dumps(get(peer, f"api/models/{ID}")[2])
        finally:
            link.unlink()
    plain = home / "loam/models/org/stored:8b/config.json"
    kept = plain.read_bytes()
    plain.unlink()
    plain.symlink_to(secret)
    try:
        assert get(peer, "org/stored:8b/resolve/main/config.json")[0] == 404
    finally:
        plain.unlink()
        plain.write_bytes(kept)


def test_a_client_that_leaves(home, peer):
    """In the middle of a file, and before it: the server goes on, and holds nothing of it."""
    big = home / "loam/models/org/big"
    shutil.copytree(home / "loam/models/org/stored:8b", big)
    (big / "model.safetensors").write_bytes(bytes(64 << 20))
    request = f"GET /share/org/big/resolve/main/model.safetensors HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
    try:
        for taken in (0, 1, 100000):
            with peer.connect(receive_buffer=4096) as s:
                s.sendall(request)
                got = 0
                while got < taken:
                    got += len(s.recv(4096))
        assert get(peer, "api/models")[0] == 200
        with peer.connect(receive_buffer=4096) as s:  # one that does not read holds up nobody
            s.sendall(request)
            s.recv(10)
            for _ in range(20):
                assert get(peer, f"{ID}/resolve/main/config.json")[0] == 200
    finally:
        shutil.rmtree(big)
