import pytest

from servers import FAKE, Server, environment


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A model folder for the fake engine, which looks at its name alone."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def start(folder, tmp_path):
    """start(*flags, ready=True, **env) -> Server with the fake engine, on a free port; stopped at the end. model: another
    folder than the fake one; None: the flags say."""
    running = []

    def begin(*args, ready=True, port=0, model=folder, **env):
        s = Server(FAKE, model, "--port", port, *args, env=environment(tmp_path, **env), ready=ready)
        running.append(s)
        return s

    yield begin
    for s in running:
        if s.process.poll() is None:
            s.process.kill()
        s.process.wait()
        s.process.stdout.close()


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """One server for the tests of a file that leave it as they found it; it must end well after them."""
    s = Server(FAKE, folder, "--port", 0, env=environment(tmp_path_factory.mktemp("home")))
    yield s
    assert s.health()["running"] == 0
    assert s.stop() == 0
