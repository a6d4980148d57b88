"""One table an option: --help, the settings file, the environment, `loam config`, manual pages and completion agree."""

import json
import re
import shutil
import subprocess

import pytest

from conftest import COMMAND, ROOT


def pages(loam):
    return loam("man", "--list").stdout.split("\n")[1:-1]


def options(loam, command):
    return re.findall(r"^  (?:-\w, |    )(--[\w-]+)", loam(*command.split(), "--help").stdout, re.M)


@pytest.fixture
def settings(tmp_path):
    def write(text):
        (tmp_path / "loam.conf").write_text(text)
        return {"LOAM_SETTINGS": str(tmp_path / "loam.conf")}

    return write


def held(loam, *args, **how):
    return {o["name"]: (o["value"], o["from"]) for o in loam.json("config", "--json", *args, **how)}


def test_order(loam, settings, tmp_path):
    env = settings("temp = 0.1\nport = 1\n[serve]\nport = 2\ntop-p = 0.5\nallow-host = a\nallow-host = b\nquiet = true\n")
    file = tmp_path / "loam.conf"
    now = held(loam, "serve", env=env)
    assert now["port"] == ("2", f"{file}:4") and now["temp"] == ("0.1", f"{file}:1") and now["host"] == ("127.0.0.1", "default")
    assert now["quiet"] == ("true", f"{file}:8") and now["model"] == (None, "default")
    env = {**env, "LOAM_PORT": "3", "MLX_PORT": "9", "MLX_HOST": "::1", "LOAM_QUIET": "off", "LOAM_ALLOW_HOST": "x,y"}
    now = held(loam, "serve", "--top-p", 1, env=env)
    assert now["port"] == ("3", "LOAM_PORT") and now["host"] == ("::1", "MLX_HOST") and now["top-p"] == ("1", "--top-p")
    assert now["quiet"] == ("false", "LOAM_QUIET") and now["allow-host"][1] == "LOAM_ALLOW_HOST"
    assert held(loam, "serve", "--port=4", env=env)["port"] == ("4", "--port")
    assert held(loam, "gateway", "status", env={"LOAM_CONFIG": "x.json"})["config"] == ("x.json", "LOAM_CONFIG")
    assert held(loam, "chat", env={"MLX_MODEL": "m"})["model"] == (None, "default")


def test_config_is_a_settings_file(loam, settings):
    env = settings('model = "a # b"\n[serve]\nallow-host = a\nallow-host = b\n')
    text = loam("config", "serve", env=env).stdout
    again = loam("config", "serve", env=settings(text)).stdout
    assert re.sub(" +# .*", "", text) == re.sub(" +# .*", "", again) and '"a # b"' in text


@pytest.mark.parametrize("text,words", [
    ("prot = 1", ":1: --prot is no flag of any command"), ("[serve]\nprot = 1", ":2: --prot is no flag of this command"),
    ("[srve]\nport = 1", ":2: srve is no command"), ("[serve]\nport = many", ":2: port = many: must be a whole number"),
    ("\nport = 99999", ":2: port = 99999: must be from 0 to 65535"), ("quiet = 2", "must be true or false"),
    ("port = 1\nport = 2", ":2: port =  is said twice"), ("port", ":1: a setting is NAME = VALUE"),
])
def test_mistakes_in_the_file(loam, settings, text, words):
    done = loam("serve", ok=False, env=settings(text))
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1 and not done.stdout


def test_the_file_is_found(loam, tmp_path):
    (tmp_path / "loam").mkdir()
    (tmp_path / "loam" / "loam.conf").write_text("port = 7\n")
    assert held(loam, "serve", env={"XDG_CONFIG_HOME": str(tmp_path)})["port"][0] == "7"
    assert held(loam, "serve", env={"XDG_CONFIG_HOME": str(tmp_path), "LOAM_SETTINGS": ""})["port"][0] == "8000"
    missing = loam("serve", "--settings", tmp_path / "none", ok=False)
    assert missing.returncode == 2 and "none" in missing.stderr


def test_manual_pages(loam):
    lint = shutil.which("mandoc")
    for name in ["loam", *pages(loam)]:
        page = loam("man", *name.split()).stdout
        if name != "loam":
            for option in options(loam, name):
                assert option.replace("-", "\\-") in page, (name, option)
        if lint:
            done = subprocess.run([lint, "-Tlint", "-W", "error"], input=page, text=True, stdout=subprocess.PIPE)
            assert done.returncode == 0, (name, done.stdout)
    assert loam("man", "frobnicate", ok=False).returncode == 1


def complete(loam, *words):
    """What bash offers for the last of these words."""
    script = f"""source <({COMMAND[-1]} completion bash)
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_loam loam "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", script, "bash", "loam", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**loam.env, "PATH": f"{COMMAND[-1].rpartition('/')[0]}:{loam.env['PATH']}"})
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.skipif(len(COMMAND) > 1, reason="under an emulator the shell cannot start the program")
def test_bash_completes(loam, tmp_path):
    assert complete(loam, "ser") == ["serve", "service"] and complete(loam, "serve") == ["serve"]
    assert "config" in complete(loam, "")
    assert complete(loam, "serve", "--max-q") == ["--max-queued"]
    assert complete(loam, "serve", "--substrate", "") == ["auto", "cpu", "mlx", "reference"]
    assert complete(loam, "gateway", "st") == ["status"]
    assert complete(loam, "gateway", "status", "--j") == ["--json"]
    assert complete(loam, "completion", "z") == ["zsh"]
    (tmp_path / "key.pem").write_text("")
    assert complete(loam, "serve", "--tls-key", str(tmp_path / "k")) == [str(tmp_path / "key.pem")]
    for name in pages(loam):
        offered = set(complete(loam, *name.split(), "--"))
        assert set(options(loam, name)) <= offered, name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script(loam, shell):
    text = loam("completion", shell).stdout
    for name in pages(loam):
        assert name.split()[-1] in text
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0 and not done.stdout


@pytest.mark.skipif(not shutil.which("fish") or len(COMMAND) > 1, reason="fish is not here")
def test_fish_completes(loam, tmp_path):
    (tmp_path / "c").write_text(loam("completion", "fish").stdout)
    done = subprocess.run(["fish", "-N", "-c", f"source {tmp_path}/c; complete -C'loam serve --substrate '"], stdout=subprocess.PIPE,
                          text=True, env={**loam.env, "HOME": str(tmp_path)})
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["auto", "cpu", "mlx", "reference"]


def test_install_puts_them_in_place(loam, tmp_path):
    subprocess.run([ROOT / "tools" / "install_pages", *COMMAND[-1:], tmp_path], check=True, env=loam.env) if len(COMMAND) == 1 else pytest.skip("emulated")
    names = {p.name for p in (tmp_path / "man" / "man1").iterdir()}
    assert names == {"loam.1", *("loam-" + n.replace(" ", "-") + ".1" for n in pages(loam))}
    assert (tmp_path / "bash-completion/completions/loam").read_text() == loam("completion", "bash").stdout
    assert (tmp_path / "zsh/site-functions/_loam").exists() and (tmp_path / "fish/vendor_completions.d/loam.fish").exists()
