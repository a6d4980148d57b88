"""Starting the gateway and backends that do as they are told, and talking to them."""

import http.client
import json
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse

import pytest

from conftest import COMMAND

FAKE = [*COMMAND[:-1], str(pathlib.Path(COMMAND[-1]).parent / "tests" / "gateway" / "fake_backend")]
PATIENCE = 30  # seconds that anything may take before a test calls it a hang


def until(true, what="it"):
    """Asks until true() is truthy, and returns that."""
    end = time.monotonic() + PATIENCE
    while not (now := true()):
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.005)  # polls; nothing depends on its length
    return now


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]

    @property
    def text(self):
        choice = self.json["choices"][0]
        return choice["message"]["content"] if "message" in choice else choice["text"]

    @property
    def backend(self):
        return self.headers["X-Loam-Backend"]


class Http:
    port = None

    def request(self, method, path, body=None, headers=None, timeout=PATIENCE):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        c.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        r = c.getresponse()
        answer = Answer(r, r.read())
        c.close()
        return answer

    def get(self, path, **how):
        return self.request("GET", path, **how)

    def post(self, path, body=None, **how):
        return self.request("POST", path, body if body is not None else {}, **how)

    def chat(self, text="hello", headers=None, **more):
        return self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": text}], **more}, headers=headers)

    def stream(self, text="hello", headers=None, **more):
        """A whole streamed answer."""
        with self.open(text, headers=headers, **more) as s:
            return s.read()

    def open(self, text="hello", path="/v1/chat/completions", headers=None, **more):
        """A streamed answer that is read by and by."""
        body = {"stream": True, **more}
        if path.endswith("chat/completions"):
            body.setdefault("messages", [{"role": "user", "content": text}])
        else:
            body.setdefault("prompt", text)
        return Stream(self.port, path, body, headers)


class Stream:
    """text, events, done, errors grow with read(); finish and usage are set at the end."""

    def __init__(self, port, path, body, headers=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
        self.response = self.connection.getresponse()
        self.status = self.response.status
        self.headers = self.response.headers
        self.events, self.errors, self.text, self.done, self.finish, self.usage, self.raw = [], [], "", False, None, None, b""

    def next(self):
        """Reads one line; False at the end."""
        line = self.response.readline()
        self.raw += line
        if line.startswith(b"data: [DONE]"):
            self.done = True
        elif line.startswith(b"data: "):
            self.take(json.loads(line[6:]))
        return bool(line)

    def take(self, event):
        self.events.append(event)
        if "error" in event:
            self.errors.append(event["error"])
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices", []):
            self.text += choice.get("delta", {}).get("content") or choice.get("text") or ""
            self.finish = choice["finish_reason"] or self.finish

    def until_text(self):
        while not self.text:
            assert self.next(), self.raw
        return self

    def read(self):
        while self.next():
            pass
        return self

    @property
    def backend(self):
        return self.headers["X-Loam-Backend"]

    def close(self):
        self.connection.close()
        self.response.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Fake(Http):
    """A backend. kill() is kill -9; start() brings it back on its port."""

    def __init__(self, name, kind="loam", model="m", **flags):
        self.name, self.kind, self.model, self.flags = name, kind, model, flags
        self.port = 0
        self.process = None
        self.start()

    def start(self):
        more = [w for k, v in self.flags.items() for w in (f"--{k.replace('_', '-')}", str(v))]
        self.process = subprocess.Popen([*FAKE, "--port", str(self.port), "--name", self.name, "--kind", self.kind, "--model", self.model, *more],
                                        stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line, f"backend {self.name} did not start"
        self.port = int(line)
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def conf(self, **more):
        return {"name": self.name, "url": self.url, **more}

    def tell(self, **what):
        assert self.post("/fake", what).status == 200

    def seen(self):
        return self.get("/fake").json

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        if self.process.poll() is None:
            self.kill()


@pytest.fixture
def fake():
    """fake("a", kind="loam") -> a running backend; ended with the test."""
    running = []

    def begin(name, **how):
        running.append(Fake(name, **how))
        return running[-1]

    yield begin
    for f in running:
        f.stop()


class Gateway(Http):
    def __init__(self, loam, folder, config, *args):
        self.loam, self.path = loam, pathlib.Path(folder) / "gateway.json"
        self.write(config)
        self.log_file = tempfile.TemporaryFile("w+")
        self.process = loam.start("gateway", "--config", self.path, *args, stdout=subprocess.PIPE, stderr=self.log_file, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+:(\d+)$", line.strip())
        assert found, f"no ready line: {line!r}; {self.log()}"
        self.port = int(found[1])

    def write(self, config):
        self.config = {"listen": "127.0.0.1:0", **config}
        self.path.write_text(json.dumps(self.config))

    def log(self):
        self.log_file.seek(0)
        return self.log_file.read()

    def lines(self):
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def status(self):
        key = self.config.get("admin_key")
        return self.get("/gateway/api/status", headers={"Authorization": f"Bearer {key}"} if key else None).json

    def backend(self, name):
        return next(b for b in self.status()["backends"] if b["name"] == name)

    def state(self, name):
        return self.backend(name)["state"]

    def until_state(self, name, *states):
        until(lambda: self.state(name) in states, f"{name} is {states}")

    def ready(self):
        """Waits until every backend was looked at, its models too."""
        until(lambda: all(b["state"] == "up" and b["models"] for b in self.status()["backends"]), "all backends are up")
        return self

    def metric(self, name, **labels):
        want = "{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "}" if labels else ""
        for line in self.get("/metrics").body.decode().splitlines():
            if line.startswith(name + want + " "):
                return float(line.split()[-1])
        raise KeyError(name + want)

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("the gateway did not end after SIGTERM") from None
        finally:
            self.process.stdout.close()


def host_of(url):
    return urllib.parse.urlsplit(url).netloc
