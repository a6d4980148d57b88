"""`loam pull` from a stand-in of the hub that huggingface_hub itself downloads from, whole and through every fault."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from conftest import COMMAND, SLOW
from fake_hub import FakeHub, Repo, git_id
from golden import tiny

ID = "mlx-community/tiny"
PART = 65536


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A real tiny model, with things in its repository that no program needs to run it."""
    folder = tiny.make(tmp_path_factory.mktemp("hub") / "m", tiny.FAMILIES["llama"], tiny.STORAGES["f32"])
    found = {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
    assert len(found["model.safetensors"]) > 5 * PART
    return {**found, "README.md": b"# tiny", "consolidated.safetensors": b"the same again", "onnx/model.onnx": b"x",
            "original/params.json": b"{}", "tokenizer.model": b"pieces", "chat_template.jinja": b"{{ messages }}", "empty.txt": b""}


WANTED = ["chat_template.jinja", "config.json", "empty.txt", "model.safetensors",
          "model.safetensors.index.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"]


@pytest.fixture
def hub(files):
    h = FakeHub()
    h.repos[ID] = Repo(files)
    yield h
    h.close()


class Puller:
    """loam with a cache of its own and the stand-in as its hub."""

    def __init__(self, loam, hub, home):
        self.loam, self.hub, self.home = loam, hub, home
        self.env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf"), "LOAM_HOME": str(home / "loam")}
        self.repo = home / "hf" / "hub" / "models--mlx-community--tiny"

    def __call__(self, *args, env=None, **how):
        return self.loam("pull", *args, env={**self.env, **(env or {})}, **how)

    def parts(self, *args, **how):
        return self(ID, "--part-bytes", PART, "--connections", 3, *args, **how)

    def json(self, *args, **how):
        return json.loads(self(*args, "--json", **how).stdout)

    def fails(self, *args, code=1, **how):
        done = self(*args, ok=False, **how)
        assert done.returncode == code and not done.stdout, (done.returncode, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        return done.stderr

    def blobs(self):
        return sorted(p.name for p in (self.repo / "blobs").iterdir()) if self.repo.exists() else []

    def tree(self):
        """What the cache holds, with links as such, but for locks."""
        top = self.home / "hf" / "hub"
        return {str(p.relative_to(top)): os.readlink(p) if p.is_symlink() else p.read_bytes()
                for p in sorted(top.rglob("*")) if (p.is_symlink() or p.is_file()) and ".locks" not in p.parts}


@pytest.fixture
def pull(loam, hub, tmp_path):
    return Puller(loam, hub, tmp_path)


def in_python(code, pull, home=None, **env):
    """Runs Python with huggingface_hub as `h`, and returns what it prints."""
    env = {**{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}, **pull.env, **env}
    if home:
        env["HF_HOME"] = str(home)
    done = subprocess.run([sys.executable, "-c", "import huggingface_hub as h\n" + code], env=env, text=True, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


# ---- the layout, and who else reads it


def test_same_cache_as_huggingface_hub(pull, files, tmp_path):
    """Byte for byte the tree that huggingface_hub makes of the same files, which it then finds without a network."""
    told = pull.json(ID)
    assert (told["files"], told["bytes"]) == (len(WANTED), sum(len(files[n]) for n in WANTED))
    theirs = tmp_path / "theirs"
    where = in_python(f"print(h.snapshot_download({ID!r}, allow_patterns={WANTED!r}))", pull, theirs)
    assert pathlib.Path(where).name == told["commit"]
    ours = pull.tree()
    other = Puller(pull.loam, pull.hub, tmp_path)
    other.home = tmp_path / "other"
    (tmp_path / "other").mkdir()
    shutil.move(theirs, tmp_path / "other" / "hf")
    # their newest versions also keep the API's answer, to save themselves a request
    theirs = {k: v for k, v in other.tree().items() if "/trees/" not in k and not k.endswith((".tag", ".TAG"))}
    assert ours == theirs
    offline = f"""
folder = h.snapshot_download({ID!r}, local_files_only=True)
assert h.try_to_load_from_cache({ID!r}, "model.safetensors") == folder + "/model.safetensors"
info = h.scan_cache_dir()
assert not info.warnings, info.warnings
repo, = info.repos
print(repo.repo_id, repo.nb_files, sorted(repo.refs), folder)"""
    assert in_python(offline, pull, HF_HUB_OFFLINE="1") == f"{ID} {len(WANTED)} ['main'] {told['path']}"
    assert pull.loam.json("show", ID, "--json", env=pull.env)["family"] == "llama"
    assert pull.loam("verify", ID, "--json", env=pull.env, ok=False).stdout.count("as recorded") == 1


def test_finds_what_huggingface_hub_downloaded(pull):
    in_python(f"h.snapshot_download({ID!r})", pull)
    assert ID in {m["name"] for m in pull.loam.json("ls", "--json", env=pull.env)}
    pull.hub.asked.clear()
    assert pull.json(ID)["fetched_bytes"] == 0
    assert not pull.hub.paths("resolve")
    assert pull.loam("generate", "-m", ID, "-p", "a b c", "--temp", 0, "-n", 3, env=pull.env).returncode == 0


def test_huggingface_hub_waits_for_the_same_lock(pull):
    """While huggingface_hub's lock of a blob is held, loam waits, says so, and takes what came meanwhile."""
    code = f"""
import sys, pathlib
from huggingface_hub.utils import WeakFileLock
lock = pathlib.Path(h.constants.HF_HUB_CACHE) / ".locks" / "models--mlx-community--tiny" / (sys.argv[1] + ".lock")
lock.parent.mkdir(parents=True)
with WeakFileLock(lock):
    print("held", flush=True)
    sys.stdin.readline()
"""
    repo = pull.hub.repos[ID]
    etag = repo.etag("model.safetensors", repo.commits[repo.revisions["main"]]["model.safetensors"])
    env = {**{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}, **pull.env}
    holder = subprocess.Popen([sys.executable, "-c", "import huggingface_hub as h\n" + code, etag], env=env, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == "held\n"
    p = pull.loam.start("pull", ID, env=pull.env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert "model.safetensors is being downloaded by another program" in p.stderr.readline()
    assert not pull.hub.paths("resolve.*model.safetensors$")
    holder.communicate("go on\n")
    assert p.wait(60) == 0
    p.communicate()


def test_revisions(pull, files):
    repo = pull.hub.repos[ID]
    first = repo.revisions["main"]
    second = repo.commit({**files, "config.json": files["config.json"] + b"\n"}, "main", "v2", "refs/pr/1")
    assert pull.json(f"{ID}@{first}")["commit"] == first
    assert not (pull.repo / "refs" / "main").exists() and pathlib.Path(pull.loam.json("show", ID, "--json", env=pull.env)["path"]).name == first
    for revision in ("v2", "refs/pr/1", "main"):
        told = pull.json(f"{ID}@{revision}")
        assert told["commit"] == second and (pull.repo / "refs" / revision).read_text() == second
    assert told["fetched_bytes"] == 0
    for name, commit in ((ID, second), (f"{ID}@v2", second), (f"{ID}@refs/pr/1", second), (f"{ID}@{first}", first)):
        assert pathlib.Path(pull.loam.json("show", name, "--json", env=pull.env)["path"]).name == commit
    assert "no revision v9" in pull.fails(f"{ID}@v9")
    assert "no revision v9" in pull.loam("show", f"{ID}@v9", env=pull.env, ok=False).stderr


def test_which_files(pull, files):
    pull(ID, "--include", "*.md", "--include", "onnx/*", "--exclude", "*.onnx")
    snapshot = pull.repo / "snapshots" / pull.hub.repos[ID].revisions["main"]
    assert [p.name for p in snapshot.iterdir()] == ["README.md"]
    pull(ID, "--include", "*.onnx")
    assert (snapshot / "onnx" / "model.onnx").read_bytes() == b"x"
    assert os.readlink(snapshot / "onnx" / "model.onnx") == f"../../../blobs/{git_id(b'x')}"
    assert "none of them is wanted" in pull.fails(ID, "--exclude", "*")
    pull.hub.repos["org/gguf"] = Repo({"a.gguf": b"GGUF", "README.md": b""})
    assert "loam import" in pull.fails("org/gguf")
    pull("org/gguf", "--include", "*.gguf")


def test_short_names(pull, files):
    pull.hub.repos["mlx-community/Qwen2.5-32B-Instruct-4bit"] = Repo(files)
    told = pull.loam("show", "qwen2.5-32b", env=pull.env, ok=False)
    assert "loam pull qwen2.5-32b" in told.stderr
    assert pull.json("Qwen2.5-32B")["id"] == "mlx-community/Qwen2.5-32B-Instruct-4bit"
    assert pull.loam.json("show", "qwen2.5-32b", "--json", env=pull.env)["family"] == "llama"


def test_without_blobs_each_file_is_asked_for(pull):
    """A mirror whose API tells no sizes and hashes: HEAD does, as huggingface_hub asks."""
    pull.hub.tells_blobs = False
    told = pull.json(ID)
    assert len(pull.hub.paths("resolve", "HEAD")) == len(WANTED) and told["files"] == len(WANTED)
    pull.hub.moved["mlx-community/old"] = ID
    assert pull.json("mlx-community/old")["fetched_bytes"] > 0


# ---- tokens, offline


def test_tokens(pull, files, tmp_path):
    pull.hub.repos[ID].token = "hf_secret"
    said = pull.fails(ID)
    assert "HF_TOKEN" in said
    assert "this token" in pull.fails(ID, env={"HF_TOKEN": "hf_wrong"})
    assert "no token" in pull.fails(ID, env={"HF_TOKEN": "a\r\nX-Evil: 1"})
    pull(ID, env={"HF_TOKEN": "hf_secret"})
    there = [h for m, p, h in pull.hub.asked if "Expires" in p]
    assert there and not any("Authorization" in h for h in there)  # the second host is not the hub
    shutil.rmtree(pull.repo)
    (tmp_path / "hf" / "token").write_text("hf_secret\n")
    pull(ID)
    pull.hub.repos[ID].gated = True
    assert f"{pull.hub.url}/{ID}" in pull.fails(ID, env={"HF_TOKEN": "none"})


def test_offline(pull, tmp_path):
    assert "HF_HUB_OFFLINE" in pull.fails(ID, env={"HF_HUB_OFFLINE": "1"})
    assert not pull.hub.asked
    path = pull(ID).stdout
    pull.hub.asked.clear()
    assert pull(ID, env={"HF_HUB_OFFLINE": "1"}).stdout == path and not pull.hub.asked
    elsewhere = pull(ID, env={"HF_HUB_CACHE": str(tmp_path / "elsewhere")}).stdout
    assert elsewhere.startswith(str(tmp_path / "elsewhere" / "models--mlx-community--tiny"))


# ---- faults


def weights(pull):
    return (pull.repo / "snapshots" / pull.hub.repos[ID].revisions["main"] / "model.safetensors").read_bytes()


@pytest.mark.parametrize("fault", [
    dict(kind="cut", path="Expires", after=1000, times=3), dict(kind="cut", path="Expires", after=0),
    dict(kind="status", path="resolve.*safetensors", code=503), dict(kind="status", path="Expires", code=500, times=2),
    dict(kind="status", path="Expires", code=429, headers={"Retry-After": "1"}),
    dict(kind="status", path="resolve", code=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    dict(kind="status", path="api", code=429, headers={"RateLimit": '"api";r=0;t=1'}),
    dict(kind="status", path="Expires", code=416), dict(kind="wrong_range", path="Expires", by=10), dict(kind="no_ranges", path="Expires", times=99),
    dict(kind="damage", path="Expires"), dict(kind="more", path="Expires"), dict(kind="short", path="Expires"),
    dict(kind="cut", path="api", after=0), dict(kind="damage", path="config.json"), dict(kind="short", path="config.json"),
    dict(kind="more", path="config.json"),
], ids=lambda f: f"{f['kind']}-{f.get('code', '')}-{f['path']}")
def test_gets_over(pull, files, fault):
    """One fault, or some, of those that happen: the right bytes lie there in the end, and nothing else."""
    pull.hub.fault(**fault)
    pull.parts()
    assert weights(pull) == files["model.safetensors"]
    assert all(f["times"] < fault.get("times", 1) for f in pull.hub.faults), "the fault did not happen"
    assert len(pull.blobs()) == len(WANTED)


def test_several_connections_share_a_file(pull, files):
    pull.parts()
    ranges = sorted(h["Range"] for m, p, h in pull.hub.asked if "Expires" in p)
    assert len(ranges) == -(-len(files["model.safetensors"]) // PART) and "bytes=0-65535" in ranges


@pytest.mark.parametrize("fault,words", [
    (dict(kind="status", path="Expires", code=404), "404"), (dict(kind="status", path="Expires", code=403), "403"),
    (dict(kind="status", path="Expires", code=429, headers={"Retry-After": "4000"}), "429, and says to come back in 4000 s"),
    (dict(kind="status", path="Expires", code=416), "416"), (dict(kind="damage", path="Expires"), "damaged"),
    (dict(kind="wrong_range", path="Expires", by=1), "another range"), (dict(kind="status", path="api", code=500), "500"),
    (dict(kind="cut", path="Expires", after=10), "run it again"), (dict(kind="status", path="api", code=418), "418"),
    (dict(kind="more", path="Expires"), "more than was asked"),
], ids=lambda f: f if isinstance(f, str) else f"{f['kind']}-{f.get('code', '')}")
def test_gives_up(pull, fault, words):
    """A fault that stays: an error that names the file, no model, and no blob that is not right."""
    pull.hub.fault(**fault, times=1000)
    said = pull.fails(ID, "--retries", 1, "--part-bytes", PART)
    assert words in said and ("model.safetensors" in said or fault["path"] == "api"), said
    assert not (pull.repo / "refs" / "main").exists() and ID not in {m["name"] for m in pull.loam.json("ls", "--json", env=pull.env)}
    for p in (pull.repo / "blobs").iterdir() if pull.repo.exists() else []:
        assert p.name.endswith(".loam-part") or p.name in (hashlib.sha256(p.read_bytes()).hexdigest(), git_id(p.read_bytes()))
    pull.hub.faults.clear()
    pull(ID)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_goes_on_after_an_end(pull, files, end):
    """Killed in the middle, it gets only what is missing, the next time."""
    pull.hub.fault("hold", "Expires", after=30000, times=2)
    p = pull.loam.start("pull", ID, "--part-bytes", PART, "--connections", 2, env=pull.env, stderr=subprocess.PIPE, text=True)
    assert pull.hub.held.wait(60)
    part, = [b for b in wait_for(lambda: [b for b in pull.blobs() if b.endswith(".loam-part")])]
    p.send_signal(end)
    said = p.communicate(timeout=60)[1]
    assert p.returncode == (-signal.SIGKILL if end == signal.SIGKILL else 1), said
    assert end == signal.SIGKILL or "run it again" in said
    assert part in pull.blobs() and not (pull.repo / "refs" / "main").exists()
    pull.hub.hold.set()
    pull.hub.asked.clear()
    told = pull.json(ID, "--part-bytes", PART)
    begins = [int(re.match(r"bytes=(\d+)-", h["Range"])[1]) for m, path, h in pull.hub.asked if "Expires" in path]
    assert weights(pull) == files["model.safetensors"]
    assert told["fetched_bytes"] < told["bytes"] and any(b % PART for b in begins), begins


def wait_for(what):
    import time
    end = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.005)  # polls; nothing depends on its length
    return found


def test_progress(pull, tmp_path):
    """On a terminal one line that is written over, whose percentage never falls, through a reset of the file."""
    import pty
    pull.hub.fault("cut", "Expires", after=20000, times=3)
    pull.hub.fault("status", "Expires", code=416)
    ours, its = pty.openpty()
    p = pull.loam.start("pull", ID, "--part-bytes", PART, "--connections", 1, env=pull.env, stderr=its, stdout=subprocess.DEVNULL)
    os.close(its)
    text = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side has closed
            more = b""
        if not more:
            break
        text += more
    os.close(ours)
    assert p.wait(60) == 0
    shown = [int(n) for n in re.findall(r"\r *(\d+) %", text.decode())]
    assert shown and shown == sorted(shown), text
    assert b"\r\x1b[K" in text and b"/s" in text


def test_disk_space_is_checked_first(pull, files):
    pull.hub.answer = {"sha": "1" * 40, "siblings": [{"rfilename": "model.safetensors", "blobId": "2" * 40, "size": 1,
                                                      "lfs": {"sha256": "3" * 64, "size": 10**15, "pointerSize": 1}}]}
    said = pull.fails(ID)
    assert "1000000.0 GB more" in said and "HF_HUB_CACHE" in said
    assert not pull.hub.paths("resolve") and not pull.blobs()


def test_full_disk(pull):
    import shlex
    command = f"trap '' XFSZ; ulimit -f 100; exec {shlex.join(COMMAND)} pull {ID}"
    done = subprocess.run(["bash", "-c", command], env={**pull.loam.env, **pull.env}, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "cannot write" in done.stderr and "model.safetensors" in done.stderr


# ---- a hub that lies


def siblings(*names, **more):
    return {"sha": "a" * 40, "siblings": [{"rfilename": n, "size": 1, "blobId": git_id(b"x"), **more} for n in names]}


@pytest.mark.parametrize("answer", [
    siblings("../evil.json"), siblings("/etc/evil.json"), siblings("a/../../evil.json"), siblings("a//b.json"), siblings("./a.json"),
    siblings("a\0.json"), siblings("x" * 2000 + ".json"), siblings("a/" * 30 + "b.json"), siblings("a\n.json"), siblings("..\\evil.json"),
    siblings(""), siblings("y" * 256 + ".json"), siblings("config.json", "config.json"),
    {**siblings("model.safetensors"), "sha": "../../../../evil"}, {**siblings("model.safetensors"), "sha": "a" * 39 + "/"},
    {"siblings": []}, {"sha": "a" * 40}, {"sha": "a" * 40, "siblings": [1, 2]}, {"sha": 1, "siblings": {}}, [1], b"{", b"", b"\xff",
    {"sha": "a" * 40, "siblings": [{"rfilename": ["model.safetensors"]}]},
    b'{"sha":"' + b"a" * 40 + b'","siblings":[' + b'{"rfilename":"a"},' * 10001 + b'{"rfilename":"b"}]}',
    {**siblings("model.safetensors"), "loam_store": True},
], ids=lambda a: re.sub(r"\W+", "-", str(a))[-40:])
def test_hostile_answers(pull, answer, tmp_path):
    pull.hub.answer = answer
    pull.fails(ID, "--retries", 0)
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and (".locks" not in p.parts)]
    assert not outside and not pull.hub.paths("resolve")


def test_hostile_hashes(pull, files):
    """What names a blob must be a hash, and a hash that the bytes have."""
    for lfs in ({"sha256": "../../../../evil", "size": 3}, {"sha256": "a" * 64, "size": -1}, {"sha256": "A" * 64, "size": 1}, {}, {"size": "1"}):
        pull.hub.answer = siblings("model.safetensors", lfs=lfs)
        assert "404" in pull.fails(ID, "--retries", 0)  # not believed: it asks for the file's own headers
    pull.hub.answer = siblings("model.safetensors", lfs={"sha256": "b" * 64, "size": len(files["model.safetensors"])})
    pull.hub.repos[ID].commits["a" * 40] = files
    assert "has the hash" in pull.fails(ID, "--retries", 0)
    assert pull.blobs() == []


@pytest.mark.parametrize("name", ["", "a/b/c", "../x", "/abs", "a b", "a/b@", "a/b@../x", "a/b@-x", "a/b@x y", "a:b", "x" * 300, "a/b@" + "x" * 300, ".a/b", "a/.b"])
def test_names(pull, name):
    pull.fails(name)
    assert not pull.hub.asked and not (pull.home / "hf").exists()


def test_usage(pull):
    assert "which MODEL" in pull.fails(code=2)
    assert "HF_ENDPOINT" in pull.fails(ID, env={"HF_ENDPOINT": "ftp://x"})
    assert "127.0.0.1" in pull.fails(ID, "--retries", 0, env={"HF_ENDPOINT": "http://127.0.0.1:1"})
