"""Starting `loam serve`, and talking to it byte by byte."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time

from conftest import COMMAND

FAKE = [*COMMAND[:-1], str(pathlib.Path(COMMAND[-1]).parent / "tests" / "loam-fake")]
PATIENCE = 30  # seconds that anything may take before a test calls it a hang


class Server:
    """A running server. url, port; stop() drains it and returns its exit code."""

    def __init__(self, command, model, *args, env, ready=True, stderr=None):
        self.log_file = tempfile.TemporaryFile("w+")
        which = [] if model is None else ["--model", str(model)]  # None: args say it
        self.process = subprocess.Popen([*command, "serve", *which, *map(str, args)],
                                        stdout=subprocess.PIPE, stderr=self.log_file if stderr is None else stderr, text=True, env=env)
        self.port = next((int(b) for a, b in zip(args, args[1:]) if a == "--port"), None)
        if ready:
            self.wait_ready()

    def wait_ready(self):
        line = self.process.stdout.readline()
        found = re.search(r"(https?)://\S+:(\d+)$", line.strip())
        assert found, f"no ready line: {line!r}; {self.log()}"
        self.scheme = found[1]
        self.port = int(found[2])
        self.url = f"http://127.0.0.1:{self.port}"

    def wait_listening(self):
        """It may still load. For a server that was given its port."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect().close()
                return self
            except ConnectionRefusedError:
                assert time.monotonic() < end, self.log()

    def log(self):
        self.log_file.seek(0)
        return self.log_file.read()

    def connect(self, receive_buffer=None):
        s = socket.socket()
        if receive_buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        s.settimeout(PATIENCE)
        s.connect(("127.0.0.1", self.port))
        return s

    def raw(self, data, close=True):
        """Sends bytes; returns everything the server says until it closes (or for one answer, with close=False)."""
        with self.connect() as s:
            s.sendall(data)
            return read_all(s) if close else read_answer(s)

    def request(self, method, path, body=None, headers=None):
        """(status, headers, parsed JSON or bytes)"""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        c.request(method, path, data, headers or {})
        r = c.getresponse()
        text = r.read()
        c.close()
        kind = r.headers.get("Content-Type", "")
        return r.status, r.headers, json.loads(text) if kind.startswith("application/json") and text else text

    def get(self, path, **how):
        return self.request("GET", path, **how)

    def post(self, path, body, **how):
        return self.request("POST", path, body, **how)

    def chat(self, text="hello", **more):
        return self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": text}], **more})

    def health(self):
        return self.get("/health")[2]

    def until(self, what, true):
        """Asks until true(answer of GET /health) holds."""
        end = time.monotonic() + PATIENCE
        while not true(now := self.health()):
            assert time.monotonic() < end, f"{what} did not happen; last state {now}"
            time.sleep(0.005)  # polls; nothing depends on its length
        return now

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self):
        return self.process.wait(PATIENCE)

    def stop(self):
        if self.process.poll() is None:
            self.signal()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("the server did not end after SIGTERM") from None
        finally:
            self.process.stdout.close()


def leave(s, hard):
    """Closes a connection; hard: with a reset."""
    if hard:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    s.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def chat_bytes(text="hello", connection="keep-alive", **more):
    """A whole chat request as bytes."""
    body = json.dumps({"messages": [{"role": "user", "content": text}], **more}).encode()
    return (f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Connection: {connection}\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body


def read_all(s):
    data = []
    while True:
        try:
            more = s.recv(65536)
        except ConnectionResetError:
            more = b""
        if not more:
            return b"".join(data)
        data.append(more)


def read_until(s, mark, data=b""):
    while mark not in data:
        more = s.recv(65536)
        assert more, f"closed before {mark!r}: {data[-300:]!r}"
        data += more
    return data


def read_answer(s):
    """One answer with a Content-Length: (status, headers in lower case, body)."""
    data = read_until(s, b"\r\n\r\n")
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
    want = int(headers["content-length"])
    while len(body) < want:
        more = s.recv(65536)
        assert more, f"closed in the middle of a body: {data!r}"
        body += more
    return int(lines[0].split()[1]), headers, body[:want]


def dechunk(data):
    """The body of an answer that came in chunks."""
    at, out = data.index(b"\r\n\r\n") + 4, []
    while at < len(data):
        end = data.index(b"\r\n", at)
        n = int(data[at:end], 16)
        out.append(data[end + 2:end + 2 + n])
        at = end + 4 + n
        if n == 0:
            break
    return b"".join(out)


def events(data):
    """The JSON of every data: line of an SSE body, and whether it ended with [DONE]."""
    lines = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"], bool(lines) and lines[-1] == "[DONE]"


HELLO = [{"role": "user", "content": "hello"}]


def refused(answer, status, param, code=None, words=""):
    """The error of an answer that must be one."""
    got, _, body = answer
    assert got == status, body
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param and words in error["message"], error
    if code:
        assert error["code"] == code
    return error


def stream_of(server, text, path="/v1/chat/completions", **more):
    """The chunks of a streamed answer."""
    body = {"messages": [{"role": "user", "content": text}], "stream": True, **more}
    status, headers, data = server.post(path, body)
    assert status == 200
    assert headers["Content-Type"].startswith("text/event-stream") and headers["X-Accel-Buffering"] == "no" and headers["Cache-Control"] == "no-cache"
    chunks, done = events(data)
    assert done
    return chunks


def environment(home, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LOAM_", "MLX_", "HF_")) or k == "LOAM_CPU"}
    return {**env, "LOAM_HOME": str(home / "loam"), "HF_HOME": str(home / "hf"), "XDG_CONFIG_HOME": str(home / "config"), "LC_ALL": "C.UTF-8", **more}
