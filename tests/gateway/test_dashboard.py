"""The page at /gateway, in a real browser: what it shows is what happens."""

import shutil
import threading

import pytest

from gw import PATIENCE, until

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

pytestmark = [pytest.mark.heavy, pytest.mark.skipif(not shutil.which("chromedriver"), reason="no chromedriver here")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1300,1100",
                 f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def wait(browser, true):
    return WebDriverWait(browser, PATIENCE, poll_frequency=0.05).until(lambda b: true(b))


def rows(browser):
    script = "return [...document.querySelectorAll('#backends tbody tr')].map(r => [...r.cells].map(c => c.innerText))"
    return {r[0].split("\n")[0].strip(): r for r in browser.execute_script(script)}


def loud(browser):
    return [line for line in browser.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]


def test_it_shows_backends_split_and_latency_live(browser, fake, gateway, tmp_path):
    backends = [fake("studio-1"), fake("studio-2", kind="vllm"), fake("mini")]
    g = gateway(backends=[b.conf(weight=w, max_inflight=64) for b, w in zip(backends, (3, 2, 1))], policy="weighted")
    ending = threading.Event()

    def load():
        while not ending.is_set():
            g.stream("[fake prefill.mini=60 prefill=15 delay.mini=8 delay=3]", max_tokens=25)

    workers = [threading.Thread(target=load) for _ in range(4)]
    for w in workers:
        w.start()
    try:
        browser.get(f"http://127.0.0.1:{g.port}/gateway")
        wait(browser, lambda b: b.find_element(By.ID, "state").text == "all backends are up")
        assert set(rows(browser)) == {"studio-1", "studio-2", "mini"}
        wait(browser, lambda b: len(b.find_elements(By.CSS_SELECTOR, "#split div")) == 3)
        wait(browser, lambda b: all(len(b.find_elements(By.CSS_SELECTOR, f"#plot-{p} polyline")) >= 3 for p in ("ttft", "itl", "rate")))
        wait(browser, lambda b: rows(b)["mini"][7].endswith("ms") and float(rows(b)["mini"][7].split()[0]) > float(rows(b)["studio-1"][7].split()[0]))
        parts = browser.execute_script("return [...document.querySelectorAll('#legend > span')].map(e => e.innerText)")
        assert [p.split()[0] for p in parts] == ["studio-1", "studio-2", "mini"]
        shares = [float(p.split()[1]) for p in parts]
        assert shares[0] > shares[1] > shares[2] > 0 and abs(sum(shares) - 100) < 0.5

        backends[1].kill()
        wait(browser, lambda b: rows(b)["studio-2"][1].split("\n")[0] in ("down", "failing"))
        assert "1 of 3" in browser.find_element(By.ID, "state").text
        browser.save_screenshot(str(tmp_path / "gateway.png"))

        browser.find_element(By.CSS_SELECTOR, 'tr[data-backend="mini"] button').click()
        wait(browser, lambda b: rows(b)["mini"][1].split("\n")[0] in ("draining", "drained"))
        assert g.state("mini") in ("draining", "drained")
        browser.find_element(By.CSS_SELECTOR, 'tr[data-backend="mini"] button').click()
        until(lambda: g.state("mini") not in ("draining", "drained"))
    finally:
        ending.set()
        for w in workers:
            w.join()
    assert not loud(browser)


def test_it_asks_for_the_admin_key(browser, fake, gateway):
    g = gateway(fake("a"), admin_key="the-admin-key")
    browser.get(f"http://127.0.0.1:{g.port}/gateway")
    wait(browser, lambda b: b.find_element(By.ID, "door").is_displayed())
    browser.find_element(By.ID, "key").send_keys("wrong-key\n")
    wait(browser, lambda b: "admin key" in b.find_element(By.ID, "door-says").text)
    browser.find_element(By.ID, "key").send_keys("the-admin-key\n")
    wait(browser, lambda b: b.find_element(By.ID, "main").is_displayed() and rows(b))
    browser.get_log("browser")  # refusals are errors there


def test_a_gateway_that_is_gone_is_said(browser, fake, gateway):
    g = gateway(fake("a"))
    browser.get(f"http://127.0.0.1:{g.port}/gateway")
    wait(browser, rows)
    assert g.stop() == 0
    wait(browser, lambda b: "does not answer" in b.find_element(By.ID, "state").text)
    browser.get_log("browser")


def test_a_rollout_is_shown_and_the_red_button_ends_it(browser, fake, gateway, tmp_path):
    a, b = fake("vllm-1", kind="vllm"), fake("mlx-1")
    g = gateway(backends=[a.conf(), b.conf(standby=True)])
    plan = {"action": "start", "from": "vllm", "to": "mlx-1", "steps": [10, 50, 100], "min_requests": 10**9}
    assert g.post("/gateway/api/rollout", plan).status == 200
    state = lambda: g.get("/gateway/api/rollout").json["rollouts"][0]  # noqa: E731
    until(lambda: state()["state"] == "running")
    for i in range(40):
        g.stream(f"question {i}", max_tokens=3)
    browser.get(f"http://127.0.0.1:{g.port}/gateway")
    wait(browser, lambda b: "10 %" in b.find_element(By.CSS_SELECTOR, ".rollout p").text)
    box = browser.find_element(By.CSS_SELECTOR, ".rollout").text
    assert "vllm-1 → mlx-1" in box and "running" in box and "errors" in box and "ttft" in box
    assert len(browser.find_elements(By.CSS_SELECTOR, "button.red")) == 1
    browser.find_element(By.CSS_SELECTOR, 'button[data-action="promote"]').click()
    until(lambda: state()["per_cent"] == 50)
    wait(browser, lambda b: "50 %" in b.find_element(By.CSS_SELECTOR, ".rollout p").text)
    browser.find_element(By.CSS_SELECTOR, 'button[data-action="pause"]').click()
    until(lambda: state()["state"] == "paused")
    browser.save_screenshot(str(tmp_path / "rollout.png"))
    browser.find_element(By.CSS_SELECTOR, "button.red").click()
    until(lambda: state()["state"] == "rolled_back")
    wait(browser, lambda b: "rolled back" in b.find_element(By.CSS_SELECTOR, ".rollout p").text and not b.find_elements(By.CSS_SELECTOR, "button.red"))
    n = b.seen()["requests"]
    for i in range(10):
        assert g.chat(f"after {i}").backend == "vllm-1"
    assert b.seen()["requests"] == n
    assert not loud(browser)
