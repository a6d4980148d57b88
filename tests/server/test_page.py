"""The page at /, in a real browser: it chats, streams, stops, and runs nothing that a model wrote."""

import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from servers import PATIENCE

pytestmark = [pytest.mark.heavy, pytest.mark.skipif(not shutil.which("chromedriver"), reason="no chromedriver here")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1100,800",
                 f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, server):
    browser.get(server.url + "/")
    browser.execute_script("localStorage.clear()")
    browser.get(server.url + "/")
    wait(browser).until(lambda b: b.find_element(By.ID, "state").text == "fake")
    browser.get_log("browser")
    yield browser
    loud = [line for line in browser.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]
    assert not loud, "the console is silent"


def wait(browser):
    return WebDriverWait(browser, PATIENCE, poll_frequency=0.05)


def ask(page, text):
    page.find_element(By.ID, "text").send_keys(text + Keys.ENTER)


def answers(page):
    return page.find_elements(By.CSS_SELECTOR, ".message.assistant")


def done(page):
    wait(page).until(lambda b: b.find_element(By.ID, "send").is_displayed() and not b.find_elements(By.CLASS_NAME, "waiting"))


def test_chat_streams_and_is_kept(page, server):
    ask(page, "hello [fake tokens=200 delay=5]")
    wait(page).until(lambda b: 0 < len(answers(b)[-1].text) < 150 if answers(b) else False)
    done(page)
    assert answers(page)[-1].text.startswith("abcdefghij" * 20)
    meter = page.find_element(By.ID, "meter").text
    assert "first token" in meter and "tok/s" in meter and "200 tokens" in meter
    page.refresh()
    wait(page).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#chats .open"))
    page.find_element(By.CSS_SELECTOR, "#chats .open").click()
    assert answers(page)[-1].text.startswith("abcdefghij")


def test_stop_stops_the_work(page, server):
    ask(page, "[fake tokens=100000 delay=5]")
    wait(page).until(lambda b: answers(b) and len(answers(b)[-1].text) > 3)
    page.find_element(By.ID, "stop").click()
    done(page)
    server.until("the end of the work", lambda h: h["running"] == 0)
    page.find_element(By.XPATH, "//button[text()='Regenerate']").click()
    wait(page).until(lambda b: answers(b) and len(answers(b)[-1].text) > 3)
    page.find_element(By.ID, "stop").click()
    done(page)
    assert len(answers(page)) == 1


def test_nothing_a_model_writes_runs(page):
    ask(page, "<img src=x onerror=document.title='owned'> <script>document.title='owned'</script> **bold** `a<b` "
              "[bad](javascript:alert(1)) [good](https://example.org/a) [fake echo=1]")
    done(page)
    body = answers(page)[-1].find_element(By.CLASS_NAME, "body")
    assert page.title == "loam"
    assert not body.find_elements(By.TAG_NAME, "img") and not body.find_elements(By.TAG_NAME, "script")
    assert body.find_element(By.TAG_NAME, "strong").text == "bold" and body.find_element(By.TAG_NAME, "code").text == "a<b"
    assert [a.get_attribute("href") for a in body.find_elements(By.TAG_NAME, "a")] == ["https://example.org/a"]


def test_markdown(page):
    done_ = page.execute_script("""
        const d = document.createElement("div");
        d.append(markdown(arguments[0]));
        return d.innerHTML;""", "# T\n\na *b* __c__ ~~d~~\n\n- x\n  - y\n- z\n\n3. k\n4. l\n\n> q\n\n```py\n<p>\n```\n\n|a|b|\n|-|-|\n|1|2|\n\n---\nend")
    assert done_ == ('<h1>T</h1><p>a <em>b</em> <strong>c</strong> <del>d</del></p><ul><li>x<ul><li>y</li></ul></li><li>z</li></ul>'
                     '<ol start="3"><li>k</li><li>l</li></ol><blockquote><p>q</p></blockquote>'
                     '<pre data-language="py"><code>&lt;p&gt;</code></pre><table><thead><tr><th>a</th><th>b</th></tr></thead>'
                     '<tbody><tr><td>1</td><td>2</td></tr></tbody></table><hr><p>end</p>')
    for hostile in ("*" * 5000, "[" * 5000, "> " * 3000, "`" * 5001, "- " * 3000, "|" * 3000 + "\n" + "-|" * 1500, "_a" * 4000, "**a" * 3000):
        took = page.execute_script("const t = performance.now(); markdown(arguments[0]); return performance.now() - t", hostile)
        assert took < 1000, hostile[:10]


def test_errors_are_shown(page):
    ask(page, "[fake tokens=20 fail=3]")
    done(page)
    assert "the machine failed" in page.find_element(By.CLASS_NAME, "problem").text
    page.find_element(By.ID, "settings-open").click()
    page.find_element(By.ID, "temperature").send_keys("200" + Keys.TAB)
    page.find_element(By.ID, "new").click()
    ask(page, "hello")
    done(page)
    assert "temperature" in page.find_element(By.CLASS_NAME, "problem").text
    page.get_log("browser")  # Chromium logs the 400 itself


def test_settings_go_into_the_request(page):
    page.find_element(By.ID, "settings-open").click()
    page.find_element(By.ID, "system").send_keys("be brief")
    page.find_element(By.ID, "max_tokens").send_keys("40" + Keys.TAB)
    ask(page, "hello [fake echo=1]")
    done(page)
    text = answers(page)[-1].find_element(By.CLASS_NAME, "body").text
    assert "be brief" in text and "+ 40 tokens" in page.find_element(By.ID, "meter").text


def test_policy_and_no_other_host(page, server):
    import json
    status, headers, _ = server.get("/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    hosts = {json.loads(e["message"])["message"]["params"]["request"]["url"].split("/")[2] for e in page.get_log("performance")
             if '"Network.requestWillBeSent"' in e["message"] and '"http' in e["message"]}
    assert hosts <= {f"127.0.0.1:{server.port}"}


@pytest.mark.parametrize("width, height, scheme", [(1100, 800, "light"), (1100, 800, "dark"), (390, 780, "light")])
def test_layout(page, tmp_path, width, height, scheme):
    """Nothing overflows on a desk or a phone. The pictures stay in pytest's folder to be looked at."""
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    try:
        page.refresh()
        wait(page).until(lambda b: b.find_element(By.ID, "state").text == "fake")
        ask(page, "Explain **loam** as a list: - clay - silt - sand, and `code` " + "long" * 60 + " [fake echo=1]")
        done(page)
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth && document.getElementById('log').scrollWidth <= document.getElementById('log').clientWidth")
        send = page.find_element(By.ID, "send").rect
        assert send["x"] + send["width"] <= width and send["y"] + send["height"] <= height
        page.save_screenshot(str(tmp_path / f"page-{width}-{scheme}.png"))
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
