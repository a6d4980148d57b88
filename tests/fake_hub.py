"""A stand-in for the Hugging Face hub, with its protocol and with faults that a test commands.

What it speaks: the API's JSON (with ?blobs=true, and the tree), /resolve with X-Repo-Commit, git's ids as ETags of small files,
redirects to another host with X-Linked-Etag and X-Linked-Size for large ones, ranges, moved repositories, tokens.
huggingface_hub itself downloads from it in test_pull.py: that is the proof that it is like the real one.
"""

import hashlib
import http.server
import json
import re
import threading
import time
import urllib.parse


def git_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repo:
    """Files by revision. large: which names are kept as LFS does."""

    def __init__(self, files, large=lambda name: name.endswith((".safetensors", ".gguf", ".bin")), token=None, gated=False):
        self.large, self.token, self.gated = large, token, gated
        self.commits, self.revisions = {}, {}
        self.commit(files)

    def commit(self, files, *revisions):
        commit = hashlib.sha1(repr(sorted((n, git_id(d)) for n, d in files.items())).encode()).hexdigest()
        self.commits[commit] = dict(files)
        for revision in revisions or ("main",):
            self.revisions[revision] = commit
        return commit

    def etag(self, name, data):
        return hashlib.sha256(data).hexdigest() if self.large(name) else git_id(data)


class FakeHub:
    """hub.url is HF_ENDPOINT. hub.repos[id] = Repo(...). hub.fault(...) commands a fault. hub.asked: (method, path,
    headers) of each request to the hub and its second host."""

    def __init__(self):
        self.repos, self.moved, self.asked, self.faults = {}, {}, [], []
        self.tells_blobs, self.answer = True, None
        self.lock = threading.Lock()
        self.hold = threading.Event()  # what a "hold" waits for
        self.held = threading.Event()  # set when one does
        self.servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler(far)) for far in (False, True)]
        for s in self.servers:
            s.daemon_threads = True
            threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url, self.far = (f"http://127.0.0.1:{s.server_port}" for s in self.servers)

    def close(self):
        self.hold.set()
        for s in self.servers:
            s.shutdown()
            s.server_close()

    def fault(self, kind, path="", times=1, method="GET", **how):
        """The next `times` requests whose path matches get it: "cut" (after=bytes), "hold" (after=bytes; until
        hub.hold is set), "status" (code=, headers=), "wrong_range" (by=), "no_ranges", "more", "damage", "short", "slow" (bytes=, pause=seconds, again and again)."""
        self.faults.append({"kind": kind, "path": path, "times": times, "method": method, **how})

    def take_fault(self, method, path):
        with self.lock:
            for f in self.faults:
                if f["times"] > 0 and f["method"] == method and re.search(f["path"], path):
                    f["times"] -= 1
                    return f
        return None

    def paths(self, pattern, method="GET"):
        return [p for m, p, _ in self.asked if m == method and re.search(pattern, p)]

    def handler(hub, far):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                with hub.lock:
                    hub.asked.append((self.command, self.path, dict(self.headers)))
                self.trouble = hub.take_fault(self.command, self.path)
                if self.trouble and self.trouble["kind"] == "status":
                    return self.send(self.trouble["code"], b"trouble", **self.trouble.get("headers", {}))
                path = urllib.parse.urlsplit(self.path).path
                try:
                    if far:
                        return self.send_file(*hub.find_far(path))
                    return self.route(path)
                except KeyError as e:
                    return self.send(404, b"not found", **{"X-Error-Code": e.args[0], "X-Error-Message": "It is not here"})
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def route(self, path):
                api = re.fullmatch(r"/api/models/([^/]+(?:/[^/]+)?)(?:/(?:revision|tree)/([^/]+))?", path)
                file = re.fullmatch(r"/([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)", path)
                if not (api or file):
                    raise KeyError("EntryNotFound")
                name, revision = (api or file)[1], urllib.parse.unquote((api or file)[2] or "main")
                if name in hub.moved:
                    return self.send(307, b"", Location=self.path.replace(name, hub.moved[name], 1))
                repo = hub.repos.get(name)
                if repo is None:
                    raise KeyError("RepoNotFound")
                if repo.token and self.headers.get("Authorization") != f"Bearer {repo.token}":
                    if repo.gated:
                        return self.send(403, b"", **{"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
                    return self.send(401, b"", **{"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
                commit = repo.revisions.get(revision, revision)
                if commit not in repo.commits:
                    raise KeyError("RevisionNotFound")
                if "/tree/" in path and api:
                    return self.send_tree(repo, commit)
                if api:
                    return self.send_model(name, repo, commit)
                return self.send_resolved(name, repo, commit, urllib.parse.unquote(file[3]))

            def send_model(self, name, repo, commit):
                blobs = hub.tells_blobs and "blobs=true" in self.path.lower()
                siblings = []
                for n, data in repo.commits[commit].items():
                    one = {"rfilename": n}
                    if blobs:
                        one |= {"size": len(data), "blobId": git_id(data)}
                        if repo.large(n):
                            one["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
                    siblings.append(one)
                body = hub.answer if hub.answer is not None else {"_id": "0" * 24, "id": name, "modelId": name, "sha": commit, "private": False,
                                      "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0,
                                      "siblings": siblings}
                self.send(200, body if isinstance(body, bytes) else json.dumps(body).encode(), "application/json")

            def send_tree(self, repo, commit):
                entries = []
                for n, data in repo.commits[commit].items():
                    entries.append({"type": "file", "oid": git_id(data), "size": len(data), "path": n})
                    if repo.large(n):
                        entries[-1]["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
                self.send(200, json.dumps(entries).encode(), "application/json")

            def send_resolved(self, name, repo, commit, file):
                data = repo.commits[commit].get(file)
                if data is None:
                    raise KeyError("EntryNotFound")
                about = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
                if repo.large(file):
                    sha = hashlib.sha256(data).hexdigest()
                    return self.send(302, b"Found", Location=f"{hub.far}/{sha}?Expires=1&Signature=x",
                                     **about, **{"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": str(len(data)), "ETag": '"pointer"'})
                return self.send_file(data, f'"{git_id(data)}"', **about)

            def send(self, status, body, kind="text/plain", **headers):
                self.send_response(status)
                for k, v in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
                    self.send_header(k, v)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def send_file(self, data, etag, **headers):
                f = self.trouble or {"kind": None}
                kind, status, size = f["kind"], 200, len(data)
                asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                if asked and kind != "no_ranges":
                    start, end = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
                    if start >= size:
                        return self.send(416, b"", **{"Content-Range": f"bytes */{size}"})
                    status, data = 206, data[start:end + 1]
                    by = f.get("by", 0)
                    headers["Content-Range"] = f"bytes {start + by}-{end + by}/{size}"
                if kind == "damage":
                    data = bytes([data[0] ^ 1]) + data[1:]
                if kind == "more":
                    data += b"more"
                length = len(data)
                if kind == "short":
                    data = data[:-5]
                self.send_response(status)
                for k, v in {"Content-Type": "application/octet-stream", "ETag": etag, "Accept-Ranges": "bytes", **headers}.items():
                    self.send_header(k, v)
                if kind in ("short", "more"):
                    self.send_header("Connection", "close")  # where the body ends, nobody says
                else:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                if self.command == "HEAD":
                    return
                if kind in ("cut", "hold"):
                    self.wfile.write(data[:f["after"]])
                    self.wfile.flush()
                    if kind == "hold":
                        hub.held.set()
                        hub.hold.wait(60)
                    self.close_connection = True
                    return
                if kind == "slow":
                    for at in range(0, len(data), f["bytes"]):
                        self.wfile.write(data[at:at + f["bytes"]])
                        time.sleep(f["pause"])
                    return
                self.wfile.write(data)

        return Handler

    def find_far(self, path):
        for repo in self.repos.values():
            for files in repo.commits.values():
                for name, data in files.items():
                    sha = hashlib.sha256(data).hexdigest()
                    if path == "/" + sha:
                        return data, f'"{sha}"'
        raise KeyError("EntryNotFound")
