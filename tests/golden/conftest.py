import pytest

from golden import tiny

@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """tiny_model(family, storage) -> (folder, Reference), made once a session."""
    made = {}

    def get(family, storage):
        key = family, storage
        if key not in made:
            folder = tiny.make(tmp_path_factory.mktemp("tiny") / f"{family}-{storage}", {**tiny.FAMILIES, **tiny.MORE_FAMILIES}[family],
                               {**tiny.STORAGES, **tiny.MORE_STORAGES}[storage])
            made[key] = folder, tiny.Reference(folder)
        return made[key]

    return get


@pytest.fixture
def near_tie(request):
    """near_tie("what, where, how close"): a choice so close that it is listed instead of asserted."""
    return lambda line: request.node.user_properties.append(("near-tie", line))


def pytest_terminal_summary(terminalreporter):
    lines = [line for report in terminalreporter.stats.get("passed", []) for kind, line in report.user_properties if kind == "near-tie"]
    if lines:
        terminalreporter.write_sep("-", "near-ties: not asserted, the reference's own choice is within the tolerance")
        for line in lines:
            terminalreporter.write_line(line)
