"""What backends may do with a connection: keep it, close it, break it, answer oddly. The backend here is a bare socket."""

import contextlib
import socket
import threading

import pytest

CHAT = b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
JSON = b"Content-Type: application/json\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: %d\r\n\r\n%s" % (len(CHAT), CHAT)
EVENT = b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'


class Bare:
    """Answers the i-th chat request on any connection with answers[i]; None closes the connection instead, a list sends
    its bytes and closes then. Other requests get the list of models."""

    def __init__(self, answers):
        self.answers, self.requests, self.connections = list(answers), [], 0
        self.early = None  # sent as soon as a chat's head has come; its body is read and needs no answer any more
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.name, self.port = "bare", self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def conf(self):
        return {"name": "bare", "url": f"http://127.0.0.1:{self.port}", "kind": "openai", "models": ["m"]}

    def accept(self):
        while True:
            try:
                s = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def read(self, s, had):
        while b"\r\n\r\n" not in had:
            more = s.recv(65536)
            if not more:
                return None, b""
            had += more
        head, _, rest = had.partition(b"\r\n\r\n")
        if self.early and b"/chat/" in head:
            s.sendall(self.early)
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        while len(rest) < length and (more := s.recv(1 << 20)):
            rest += more
        return head, rest[length:]

    def serve(self, s):
        with s, contextlib.suppress(OSError):  # the gateway may close it first
            rest, first = b"", True
            while True:
                head, rest = self.read(s, rest)
                if head is None:
                    return
                if b"/chat/" not in head:
                    s.sendall(b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 27\r\n\r\n" + b'{"data":[{"id":"m"}]}      ')
                    continue
                self.connections += first
                first = False
                self.requests.append(head)
                if self.early:
                    continue
                answer = self.answers.pop(0)
                if answer is None:
                    return
                if isinstance(answer, list):
                    s.sendall(answer[0])
                    return
                s.sendall(answer)
                if b"Content-Length" not in answer and b"chunked" not in answer:
                    return


@pytest.fixture
def bare(gateway):
    running = []

    def begin(*answers, **config):
        running.append(Bare(answers))
        return running[-1], gateway(running[-1], health={"interval_s": 60, "timeout_s": 5, "rise": 1}, **config)

    yield begin
    for b in running:
        b.listener.close()


def test_a_connection_carries_one_request_after_another(bare):
    b, g = bare(WHOLE, WHOLE, WHOLE)
    assert [g.chat().text for _ in range(3)] == ["hi"] * 3
    assert b.connections == 1 and len(b.requests) == 3
    assert all(r.count(b"Host: 127.0.0.1:") == 1 and r.count(b"Content-Length:") == 1 for r in b.requests)


def test_a_kept_connection_that_closes_costs_nothing(bare):
    """A server may close a connection just as it is used again: nobody has seen the request then."""
    b, g = bare(WHOLE, None, WHOLE)
    assert g.chat().text == "hi"
    assert g.chat().text == "hi"
    assert b.connections == 2 and len(b.requests) == 3


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 200 OK\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n10;x=y\r\n%s\r\n%x\r\n%s\r\n0\r\nT: u\r\n\r\n" % (CHAT[:16], len(CHAT) - 16, CHAT[16:]),
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + WHOLE,
    b"HTTP/1.0 200 OK\r\n" + JSON + b"\r\n" + CHAT,
    b"HTTP/1.1 200 OK\n" + JSON.replace(b"\r", b"") + b"Content-Length: %d\n\n%s" % (len(CHAT), CHAT),
], ids=["chunks", "interim", "until-close", "bare-lf"])
def test_answers_of_every_form_arrive(bare, answer):
    b, g = bare(answer, WHOLE)
    assert g.chat().text == "hi"
    assert g.chat().text == "hi"


@pytest.mark.parametrize("answer", [
    b"220 mail.example ESMTP\r\n\r\n" + b"Content-Length",
    b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"HTTP/1.1 200 OK\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\n" + JSON + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
], ids=["no-http", "two-lengths", "bad-chunk", "unknown-coding"])
def test_what_is_no_answer_is_said_to_be_none(bare, answer):
    b, g = bare(answer)
    r = g.chat()
    assert r.status in (502, 503) and r.error["message"]


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(EVENT), EVENT)


def test_a_stream_ends_with_its_last_chunk(bare):
    b, g = bare(STREAM + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", WHOLE)
    s = g.stream()
    assert s.text == "hi" and s.done and not s.errors
    assert g.chat().text == "hi" and b.connections == 1


def test_a_stream_that_is_cut_inside_a_chunk_is_not_taken_for_whole(bare):
    b, g = bare([STREAM.replace(b'"stop"', b"null  ") + b"ff\r\ndata: {"], resume=False)
    s = g.stream()
    assert s.text == "hi" and "lost" in s.errors[0]["message"]


def test_a_backend_that_answers_early_is_heard(bare):
    """A refusal may come before the request is sent in full, and the connection is not used again."""
    b, g = bare()
    b.early = b"HTTP/1.1 413 Too Large\r\n" + JSON + b"Content-Length: 31\r\n\r\n" + b'{"error":{"message":"too big"}}'
    r = g.chat("x" * 8_000_000)
    assert r.status == 413 and b"too big" in r.body
