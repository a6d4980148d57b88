"""The page at /, in a real browser: it chats, streams, stops, and runs nothing that a model wrote."""

import hashlib
import json
import shutil

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
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
    # a body that is being written is replaced again and again
    return WebDriverWait(browser, PATIENCE, poll_frequency=0.05, ignored_exceptions=[StaleElementReferenceException])


def ask(page, text):
    page.find_element(By.ID, "text").send_keys(text + Keys.ENTER)


def answers(page):
    return page.find_elements(By.CSS_SELECTOR, ".message.assistant")


def body_of(answer):
    return answer.find_element(By.CLASS_NAME, "body").text


def meter(page):
    return answers(page)[-1].find_element(By.CLASS_NAME, "meter").text


def press(page, label):
    """The last button of that name."""
    page.execute_script("arguments[0].click()", page.find_elements(By.XPATH, f"//button[text()='{label}']")[-1])


def done(page):
    wait(page).until(lambda b: b.find_element(By.ID, "send").is_displayed() and not b.find_elements(By.CLASS_NAME, "waiting"))


def test_chat_streams_and_is_kept(page, server):
    ask(page, "hello [fake tokens=200 delay=5]")
    wait(page).until(lambda b: 0 < len(answers(b)[-1].text) < 150 if answers(b) else False)
    done(page)
    assert answers(page)[-1].text.startswith("abcdefghij" * 20)
    words = meter(page)
    assert "s to first token" in words and "tok/s" in words and "200 tokens" in words
    assert page.find_element(By.ID, "used").text.endswith(" of 200,000 tokens of context")
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

def test_code_is_coloured_and_stays_text(page):
    code = 'def f(x):  # <b>note</b>\n    return "<i>" + str(0x1f)'
    html, text = page.execute_script("""
        const d = document.createElement("div");
        d.append(highlight(arguments[0], "python"));
        return [d.innerHTML, d.textContent];""", code)
    assert text == code and "<b>" not in html and "<i>" not in html
    for piece in ('<span class="t-k">def</span>', '<span class="t-f">f</span>', '<span class="t-c"># &lt;b&gt;', '<span class="t-s">"&lt;i&gt;"</span>', '<span class="t-n">0x1f</span>'):
        assert piece in html
    assert page.execute_script("const d = document.createElement('div'); d.append(highlight('def', 'unheard-of')); return d.innerHTML") == "def"
    for hostile in ("/*" * 20000, '"' * 20001, "'" * 27001, "`" * 20001, '\\"' * 9000, "a" * 50000, "1" * 50000, "//\n" * 9000):
        took = page.execute_script("const t = performance.now(); highlight(arguments[0], 'js'); highlight(arguments[0], 'py'); return performance.now() - t", hostile)
        assert took < 1000, hostile[:10]


def test_reasoning_is_folded_away(page):
    ask(page, "[fake say=1]<think>hmm, well</think> So it is.")
    done(page)
    thinking = answers(page)[-1].find_element(By.TAG_NAME, "details")
    assert not thinking.get_attribute("open") and thinking.find_element(By.TAG_NAME, "summary").text.startswith("Thought for ")
    assert body_of(answers(page)[-1]) == "So it is."
    thinking.find_element(By.TAG_NAME, "summary").click()
    assert thinking.find_element(By.CLASS_NAME, "thinking").text == "hmm, well"


def test_a_question_is_edited(page):
    def edit():
        page.execute_script("arguments[0].click()", page.find_elements(By.XPATH, "//button[text()='Edit']")[0])
        return page.find_element(By.CSS_SELECTOR, ".editing textarea")
    ask(page, "first [fake echo=1]")
    done(page)
    ask(page, "second [fake echo=1]")
    done(page)
    box = edit()
    assert box.get_property("value") == "first [fake echo=1]"
    box.send_keys(Keys.ESCAPE)
    assert not page.find_elements(By.CLASS_NAME, "editing") and len(answers(page)) == 2
    box = edit()
    box.clear()
    box.send_keys("third [fake echo=1]" + Keys.ENTER)
    done(page)
    assert len(answers(page)) == 1 and "third" in body_of(answers(page)[0]) and "first [" not in page.find_element(By.ID, "thread").text
    assert "third" in page.find_element(By.CSS_SELECTOR, "#chats .open").text


def test_an_answer_that_was_cut_off_is_continued(page):
    page.find_element(By.ID, "settings-open").click()
    page.find_element(By.ID, "max_tokens").send_keys("5" + Keys.TAB)
    ask(page, "[fake tokens=50]")
    done(page)
    assert body_of(answers(page)[-1]) == "abcde"
    press(page, "Continue")
    wait(page).until(lambda b: len(body_of(answers(b)[-1])) == 10)
    done(page)
    assert len(answers(page)) == 1 and body_of(answers(page)[-1]) == "abcdeabcde"


def test_several_conversations(page, server):
    """One is read while another one's answer is being written; one that goes takes its answer with it."""
    ask(page, "one [fake tokens=100000 delay=5]")
    wait(page).until(lambda b: answers(b) and len(answers(b)[-1].text) > 3)
    page.find_element(By.ID, "new").click()
    assert not answers(page) and page.find_element(By.CLASS_NAME, "empty").is_displayed()
    ask(page, "two [fake tokens=5]")
    done(page)
    titles = [e.text for e in page.find_elements(By.CSS_SELECTOR, "#chats .open")]
    assert titles[0].startswith("two") and "one" in titles[1] and page.find_elements(By.CSS_SELECTOR, "#chats .busy")
    page.find_elements(By.CSS_SELECTOR, "#chats .open")[1].click()
    before = wait(page).until(lambda b: body_of(answers(b)[-1]))
    wait(page).until(lambda b: len(body_of(answers(b)[-1])) > len(before))
    page.execute_script("document.querySelector('#chats .current .drop').click()")
    server.until("the end of the work", lambda h: h["running"] == 0)
    assert not answers(page) and len(page.find_elements(By.CSS_SELECTOR, "#chats .open")) == 1
    page.refresh()
    wait(page).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#chats .open"))
    assert [e.text for e in page.find_elements(By.CSS_SELECTOR, "#chats .open")][0].startswith("two")


def test_two_tabs_do_not_take_each_others_conversations(page, server):
    def titles():
        return sorted(e.text.split()[0] for e in page.find_elements(By.CSS_SELECTOR, "#chats .open"))
    ask(page, "one [fake tokens=2]")
    done(page)
    first = page.current_window_handle
    page.switch_to.new_window("tab")
    try:
        page.get(server.url + "/")
        wait(page).until(lambda b: b.find_element(By.ID, "state").text == "fake")
        ask(page, "two [fake tokens=2]")
        done(page)
        page.switch_to.window(first)
        wait(page).until(lambda b: titles() == ["one", "two"])
        page.find_element(By.ID, "new").click()
        ask(page, "three [fake tokens=2]")
        done(page)
        page.switch_to.window(page.window_handles[-1])
        wait(page).until(lambda b: titles() == ["one", "three", "two"])
        page.close()
    finally:
        page.switch_to.window(first)
    page.refresh()
    wait(page).until(lambda b: titles() == ["one", "three", "two"])


def test_escape_stops(page, server):
    ask(page, "[fake tokens=100000 delay=5]")
    wait(page).until(lambda b: answers(b) and len(answers(b)[-1].text) > 3)
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    done(page)
    server.until("the end of the work", lambda h: h["running"] == 0)


def test_theme_is_kept(page):
    def colour():
        return page.execute_script("return getComputedStyle(document.body).backgroundColor")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]})
    try:
        light = colour()
        page.find_element(By.ID, "theme").click()
        dark = colour()
        assert dark != light
        page.refresh()
        assert colour() == dark
        page.find_element(By.ID, "theme").click()
        assert colour() == light
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_what_the_browser_kept_may_be_nonsense(page):
    for nonsense in ('"x"', "{", '[{"title": 5}, null, {"title": "good", "messages": []}]'):
        page.execute_script("localStorage.setItem('loam.chats', arguments[0])", nonsense)
        page.refresh()
        wait(page).until(lambda b: b.find_element(By.ID, "state").text == "fake")
    assert [e.text for e in page.find_elements(By.CSS_SELECTOR, "#chats .open")] == ["good"]


def test_model_is_described(page):
    page.find_element(By.ID, "settings-open").click()
    words = page.find_element(By.ID, "about").text
    assert "4 bits (affine)" in words and "200,000 tokens" in words and "tools" in words


def test_a_key_is_asked_for_and_used(browser, start, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"ann {hashlib.sha256(b'loam-a').hexdigest()}\n")
    s = start("--api-key-file", file)
    browser.get(s.url + "/")
    wait(browser).until(lambda b: b.find_element(By.ID, "state").text == "fake")
    ask(browser, "hello")
    done(browser)
    assert "key" in browser.find_element(By.CLASS_NAME, "problem").text and browser.find_element(By.ID, "settings").is_displayed()
    browser.find_element(By.ID, "key").send_keys("loam-a" + Keys.TAB)
    wait(browser).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#model option"))
    press(browser, "Regenerate")
    done(browser)
    assert body_of(answers(browser)[-1]) == "abcdefgh"
    assert "loam-a" not in browser.execute_script("return JSON.stringify(localStorage)"), "a key does not outlive the tab"
    browser.get_log("browser")  # Chromium logs the 401 itself
    browser.get_log("performance")


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
    assert "be brief" in text and "40 tokens" in meter(page)
    page.find_element(By.ID, "reset").click()
    page.find_element(By.ID, "settings-close").click()
    page.find_element(By.ID, "new").click()
    ask(page, "hello [fake echo=1]")
    done(page)
    assert "be brief" not in body_of(answers(page)[-1])


def test_policy_and_no_other_host(page, server):
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
