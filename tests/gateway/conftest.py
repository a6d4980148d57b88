import pytest

from gw import Gateway, fake  # noqa: F401 (a fixture)

FAST = {"interval_s": 0.1, "timeout_s": 0.5, "slow_start_s": 0, "fall": 2, "rise": 1}


@pytest.fixture
def gateway(loam, tmp_path):
    """gateway(backends..., key=value...) -> a running gateway over these, that probes often. It must end well."""
    running = []

    def begin(*backends, ready=True, **config):
        config.setdefault("health", FAST)
        config.setdefault("backends", [b.conf() for b in backends])
        g = Gateway(loam, tmp_path, config)
        running.append(g)
        return g.ready() if ready else g

    yield begin
    for g in running:
        code = g.stop()
        assert code == 0, g.log()


@pytest.fixture
def pair(fake, gateway):
    """Two loam backends a and b, in turn, and the gateway over them."""
    a, b = fake("a"), fake("b")
    return a, b, gateway(a, b, policy="round_robin")
