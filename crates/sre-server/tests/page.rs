//! Tests the page in Chromium, driven by WebDriver.

mod common;

use std::net::SocketAddr;

use agent_sre::{Clock, SystemClock};
use common::browser::{Browser, violations};
use common::{Service, config, finished};
use fantoccini::Locator;
use fantoccini::actions::{InputSource, MOUSE_BUTTON_LEFT, MouseActions, PointerAction};
use fantoccini::key::Key;
use serde_json::{Value, json};
use sre_server::{Config, ServerLimits};

/// Returns an unused address, on which a service can be started twice.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn tasks(agent: &str, from: usize, count: usize, success: bool) -> String {
    (from..from + count).map(|task| finished(agent, task, success)).collect()
}

fn failed_calls(tool: &str, count: usize) -> String {
    let time = SystemClock.now();
    let call = format!(
        "{{\"event\":\"tool_call\",\"time\":\"{time}\",\"agent\":\"well\",\"tool\":\"{tool}\",\"success\":false}}\n"
    );
    call.repeat(count)
}

const ROWS: &str = "[...document.querySelectorAll('#slos .slo')].map(row => \
                    [row.querySelector('.badge').textContent.split(' ')[1], row.querySelector('.name').textContent.trim()])";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reason_for_a_status_is_on_the_first_screen() {
    let Some(browser) = Browser::open("the_reason_for_a_status_is_on_the_first_screen").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let slos = "name: answers\ntarget: 0.9\nindicators: [{type: response_latency, target_ms: 5}]\n";
    std::fs::write(folder.path().join("slo.yaml"), slos).unwrap();
    let config = Config { slos: vec![folder.path().join("slo.yaml")], ..config(folder.path()) };
    let service = Service::start(config).await;
    service.events(&(tasks("few", 0, 8, true) + &tasks("few", 8, 2, false))).await;
    browser.client.goto(&service.server.url()).await.unwrap();
    let reasons = "[...document.querySelectorAll('#slos b')].map(text => text.textContent).slice(-2)";
    let slow = "response_latency: Burn rate 20.0 over the last 1h (threshold 10): 10 of 10 samples bad. Its error budget is consumed 20 times over.";
    browser.until(reasons, json!(["2 of 10 bad: too few to tell from 90 %", slow])).await;
    browser.until("document.getElementById('summary').textContent", "1 critical").await;

    // The view of the objective shows what its indicator misses.
    browser.script("document.querySelector('#slos a').click()").await;
    let fact = "[...document.querySelectorAll('#detail .facts div')].find(fact => /latency/.test(fact.textContent))";
    let burns = "burn rate 20 over 1h (warning at 2), burn rate 20 over 1h (critical at 10)";
    let expected = format!("20 ms, target ≤ 5 ms, budget overspent by 1900 %, {burns}, critical");
    browser.until(&format!("{fact}?.querySelector('dd').textContent"), &*expected).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missed_cost_target_and_the_signal_handlers_are_shown() {
    let Some(browser) = Browser::open("a_missed_cost_target_and_the_signal_handlers_are_shown").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let slos = "name: cheap\ntarget: 0.9\nindicators: [{type: cost_per_task, target_usd: 0.5}]\n";
    std::fs::write(folder.path().join("slo.yaml"), slos).unwrap();
    let config = Config { slos: vec![folder.path().join("slo.yaml")], ..config(folder.path()) };
    let service = Service::start(config).await;
    let time = SystemClock.now();
    let call = |task| {
        format!(
            "{{\"event\":\"llm_call\",\"time\":\"{time}\",\"agent\":\"dear\",\"task\":\"{task}\",\"model\":\"m\",\"cost_usd\":\"0.8\"}}\n"
        )
    };
    service.events(&((0..20).map(call).collect::<String>() + &tasks("dear", 0, 20, true))).await;
    browser.client.goto(&service.server.url()).await.unwrap();
    let reason = "cost_per_task: $0.8 on average over 20 samples, expected at most $0.5.";
    browser.until("document.querySelector('#slos b')?.textContent", reason).await;
    browser.until(ROWS, json!([["warning", "cheap of dear"]])).await;
    // The change of status went to the handler of alerts, and to those that take actions.
    let handlers =
        "/^throttle 1 .* alerts 1 handled, 0 waiting$/.test(document.getElementById('handlers').textContent)";
    browser.until(handlers, true).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_amounts_keep_their_digits() {
    let Some(browser) = Browser::open("small_amounts_keep_their_digits").await else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("slo.yaml"), "name: cheap\nindicators: [{type: cost_per_task}]\n").unwrap();
    let config = Config { slos: vec![folder.path().join("slo.yaml")], ..config(folder.path()) };
    let service = Service::start(config).await;
    let time = SystemClock.now();
    let call = format!(
        "{{\"event\":\"llm_call\",\"time\":\"{time}\",\"agent\":\"small\",\"task\":\"0\",\"model\":\"m\",\"cost_usd\":\"0.0000386\"}}\n"
    );
    service.events(&(call + &tasks("small", 0, 1, true))).await;
    browser.client.goto(&service.server.url()).await.unwrap();
    browser.until("document.querySelector('#agents tr')?.children[5].textContent", "$0.0000386").await;
    browser.until("document.getElementById('totals').textContent.split(' · ').at(-1)", "$0.0000386").await;
    browser.script("document.querySelector('#slos a').click()").await;
    let fact =
        "[...document.querySelectorAll('#detail .facts div')].find(fact => /cost per task/.test(fact.textContent))";
    browser.until(&format!("{fact}?.querySelector('dd').textContent"), "$0.0000386, target ≤ $0.5, unknown").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_waterfall_of_a_bad_task_is_two_clicks_from_the_list() {
    let Some(browser) = Browser::open("the_waterfall_of_a_bad_task_is_two_clicks_from_the_list").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    let time = SystemClock.now().to_string();
    let line = |task: &str, event: Value| {
        let mut line = json!({"time": time, "agent": "a/b", "task": task});
        line.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
        format!("{line}\n")
    };
    let lines = [
        line("good", json!({"event": "task_finished", "success": true})),
        line(
            "<b>",
            json!({"event": "llm_call", "model": "gpt-4o", "duration_ms": 100, "output_tokens": 1500, "cost_usd": "0.01"}),
        ),
        line("<b>", json!({"event": "tool_call", "tool": "search", "success": false, "duration_ms": 900})),
        line("<b>", json!({"event": "task_finished", "success": false, "duration_ms": 1500})),
    ];
    service.events(&lines.concat()).await;
    service.until("/v1/traces", |answer| answer["traces"].as_array().unwrap().len() == 1).await;
    browser.client.goto(&service.server.url()).await.unwrap();
    browser.until("document.querySelectorAll('#slos a').length", 1).await;
    browser.script("document.querySelector('#slos a').click()").await;
    let cells = |row: &str| {
        format!(
            "[...document.querySelectorAll('#detail {row}')].map(row => [...row.cells].map(cell => cell.innerText))"
        )
    };
    let listed = format!("{}.map(cells => cells.toSpliced(2, 1))", cells("section tbody tr"));
    browser.until(&listed, json!([["<b>", "bad", "1.5 s", "3", "2", "$0.01"]])).await;
    browser.script("document.querySelector('#detail section a').click()").await;
    browser.until("document.querySelector('#detail h2')?.textContent", "Task <b>").await;
    let spans = json!([
        ["✗ invoke_agent a/b [a/b]", "", "1.5 s", "600 ms", "1,500", "$0.01"],
        ["✗ execute_tool search", "", "900 ms", "900 ms", "", ""],
        ["chat gpt-4o", "", "100 ms", "100 ms", "1,500", "$0.01"],
    ]);
    let bars = "[...document.querySelectorAll('.lane i')].map(bar => [Math.round(parseFloat(bar.style.left)), \
                Math.round(parseFloat(bar.style.width)), bar.className])";
    browser.until(bars, json!([[0, 100, "failed"], [40, 60, "failed"], [93, 7, "beside"]])).await;
    browser.until(&cells(".waterfall tbody tr"), spans).await;
    let found = violations(&browser, "the_waterfall_of_a_bad_task_is_two_clicks_from_the_list").await;
    assert_eq!(found.unwrap_or_else(|| json!([])), json!([]));
    browser.script("document.querySelector('#detail a').click()").await;
    browser.until("document.querySelector('#detail section h3')?.textContent", "Bad and slow tasks").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_counts_twice_is_on_the_page() {
    let Some(browser) = Browser::open("an_agent_that_counts_twice_is_on_the_page").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    service.tasks_from_two_sources("support", 6).await;
    browser.client.goto(&service.server.url()).await.unwrap();
    let warning = "counted twice 6 tasks of support\nThe same tasks arrive as langgraph and otlp. Send the agent's telemetry from one source only.";
    browser.until("document.getElementById('overlaps').innerText.replace(/\\n+/g, '\\n')", warning).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_not_percent_encoded_text_is_taken_as_it_is() {
    let test = "an_address_that_is_not_percent_encoded_text_is_taken_as_it_is";
    let Some(browser) = Browser::open(test).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    browser.client.goto(&format!("{}/#/slo/100%/%E0%A4%A", service.server.url())).await.unwrap();
    let shown = "found no objective `100%`; /v1/slos lists the objectives";
    browser.until("document.getElementById('detail').textContent", shown).await;
    browser.until("document.getElementById('connection').textContent", "live").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_live_updates_of_the_api() {
    let Some(browser) = Browser::open("the_page_shows_live_updates_of_the_api").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let listen = free_address();
    let own = || Config { listen, ..config(folder.path()) };
    let service = Service::start(own()).await;
    browser.client.goto(&service.server.url()).await.unwrap();
    browser.until("document.getElementById('no-slos').hidden", false).await;
    browser.until("document.getElementById('connection').textContent", "live").await;

    // Shows new agents without a reload, the most urgent first.
    service.events(&(tasks("well", 0, 40, true) + &tasks("spent", 0, 30, true) + &tasks("spent", 30, 20, false))).await;
    let call = "{\"event\":\"llm_call\",\"time\":1,\"agent\":\"well\",\"task\":\"t\",\"model\":\"gpt-5\",\"input_tokens\":1234,\"cost_usd\":\"2.5\"}\n";
    service.events(call).await;
    browser.until(ROWS, json!([["exhausted", "answers of spent"], ["healthy", "answers of well"]])).await;
    let slos = service.get("/v1/slos").await;
    let remaining = slos["slos"][0]["error_budget"]["remaining"].as_f64().unwrap();
    let shown =
        format!("{} % of the budget of task_success_rate remaining, exhausted", (remaining * 1000.0).round() / 10.0);
    browser.until("document.querySelector('#slos .slo .bar + span').textContent", shown).await;
    browser.until("document.getElementById('summary').textContent", "1 exhausted, 1 healthy").await;
    browser
        .until(
            "[...document.querySelectorAll('#agents tr')].map(row => [...row.children].slice(0, 6).map(cell => cell.textContent))",
            json!([["spent", "50", "20", "0", "0", "$0"], ["well", "40", "0", "1", "0", "$2.5"]]),
        )
        .await;
    browser
        .until(
            "[...document.querySelectorAll('#models tr')].map(row => row.textContent)",
            json!(["gpt-5101,2340$2.5–"]),
        )
        .await;
    let breakers = "[...document.querySelectorAll('#breakers tr')].map(row => [...row.children].slice(0, 3).map(cell => cell.textContent))";
    browser.until(breakers, json!([["agent spent", "open", "–"]])).await;
    browser.until("document.querySelector('#alerts .badge').textContent", "critical").await;
    browser.until("document.querySelector('#alerts .muted').textContent", "log delivered").await;
    let waiting = "document.getElementById('handlers').textContent.replace(/[\\d,]+ handled/g, 'n handled')";
    let handlers = "throttle n handled, 0 waiting · circuit_break n handled, 0 waiting · alerts n handled, 0 waiting";
    browser.until(waiting, handlers).await;
    browser
        .until(
            "document.getElementById('totals').textContent",
            "90 tasks, 20 failed · 1 model calls · 0 tool calls · $2.5",
        )
        .await;

    // The filter.
    browser.client.find(Locator::Id("filter")).await.unwrap().send_keys("well healthy").await.unwrap();
    browser.until("[...document.querySelectorAll('#slos .slo')].map(row => row.hidden)", json!([true, false])).await;
    browser
        .script("const filter = document.getElementById('filter'); filter.value = ''; filter.dispatchEvent(new Event('input'))")
        .await;

    // The view of an objective, opened by keyboard.
    browser.script("document.querySelector('#slos a').focus()").await;
    browser.client.active_element().await.unwrap().send_keys(&Key::Enter.to_string()).await.unwrap();
    browser.until("location.hash", "#/slo/answers/spent").await;
    browser.until("document.activeElement.id", "main").await;
    browser.until("document.querySelectorAll('#detail canvas').length >= 3", true).await;
    let titles = "[...document.querySelectorAll('#detail h3')].map(title => title.textContent)";
    let expected = [
        "Bad and slow tasks",
        "Error ratio",
        "Budget remaining, scaled to 24h",
        "task success rate",
        "response latency",
        "repeated tool calls",
    ];
    browser.until(titles, json!(expected)).await;

    // Shows the value at the cursor; dragging zooms in, and the zoom stays until it is reset.
    browser.script("document.querySelector('.u-over').scrollIntoView({block: 'center'})").await;
    let chart = browser.script("const box = document.querySelector('.u-over').getBoundingClientRect(); return [box.left, box.top, box.width, box.height]").await;
    let [left, top, width, height] = [0, 1, 2, 3].map(|number| chart[number].as_f64().unwrap());
    let at = |part: f64| PointerAction::MoveTo { duration: None, x: left + width * part, y: top + height / 2.0 };
    let mouse = || MouseActions::new("mouse".to_owned());
    browser.client.perform_actions(mouse().then(at(0.997))).await.unwrap();
    browser.until("document.querySelectorAll('.u-legend .u-value')[1].textContent", "40 %").await;
    let drag = mouse()
        .then(at(0.5))
        .then(PointerAction::Down { button: MOUSE_BUTTON_LEFT })
        .then(at(0.9))
        .then(PointerAction::Up { button: MOUSE_BUTTON_LEFT });
    browser.client.perform_actions(drag).await.unwrap();
    browser.until("document.getElementById('reset').hidden", false).await;
    browser.script("document.getElementById('reset').click()").await;
    browser.until("document.getElementById('reset').hidden", true).await;
    browser.script("document.querySelector('#detail summary').click()").await;
    browser.until("document.querySelector('#detail details td + td').textContent", "40 %").await;
    browser
        .script("[...document.querySelectorAll('.windows button')].find(button => button.textContent === '1h').click()")
        .await;
    browser.until("document.querySelectorAll('#detail h3')[2].textContent", "Budget remaining, scaled to 1h").await;
    browser.client.find(Locator::LinkText("← All objectives")).await.unwrap().click().await.unwrap();
    browser.until("document.getElementById('overview').hidden", false).await;

    // The page reconnects when the service restarts.
    service.server.stop().await;
    browser.until("document.getElementById('connection').textContent", "disconnected, reconnecting").await;
    let service = Service::start(own()).await;
    browser.until("document.getElementById('connection').textContent", "live").await;
    service.events(&tasks("new", 0, 1, true)).await;
    browser.until(&format!("{ROWS}.length"), 3).await;
    assert_eq!(
        browser.script("return performance.getEntriesByType('navigation').length").await,
        1,
        "the page was never reloaded"
    );
    let outside =
        "performance.getEntriesByType('resource').filter(entry => !entry.name.startsWith(location.origin)).length";
    assert_eq!(browser.script(&format!("return {outside}")).await, 0, "every resource is from the service");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_objectives_and_a_narrow_screen_work() {
    let Some(browser) = Browser::open("a_thousand_objectives_and_a_narrow_screen_work").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(Config {
        server_limits: ServerLimits { max_agents: 2_000, ..ServerLimits::default() },
        ..config(folder.path())
    })
    .await;
    let lines: String =
        (0..1_000).map(|agent| finished(&format!("agent-with-a-long-name-{agent:04}"), 0, agent % 9 != 0)).collect();
    service.events(&lines).await;
    browser.client.goto(&service.server.url()).await.unwrap();
    // The page has the most urgent ones, and more on request.
    browser.until("document.querySelectorAll('#slos .slo').length", 100).await;
    browser.until("document.getElementById('summary').textContent", "112 unknown, 888 healthy").await;
    let shown = "document.getElementById('shown').textContent";
    browser.until(shown, "The 100 most urgent of 1,000 are shown.").await;
    for count in [200, 300, 400, 500] {
        browser.script("document.getElementById('show-more').click()").await;
        browser.until("document.querySelectorAll('#slos .slo').length", count).await;
    }
    browser.until("document.getElementById('show-more').hidden", true).await;
    // The filter finds every objective, also one that the page does not have.
    browser.client.find(Locator::Id("filter")).await.unwrap().send_keys("NAME-0999 unknown").await.unwrap();
    browser.until(ROWS, json!([["unknown", "answers of agent-with-a-long-name-0999"]])).await;
    browser.until("document.getElementById('more').hidden", true).await;
    browser
        .script("const filter = document.getElementById('filter'); filter.value = ''; filter.dispatchEvent(new Event('input'))")
        .await;
    browser.until("document.querySelectorAll('#slos .slo').length", 500).await;
    // Long tasks of the browser while every objective changes every second, for docs/performance.md.
    let watch = "window.busy = []; new PerformanceObserver(list => busy.push(...list.getEntries().map(entry => entry.duration)))\
                 .observe({type: 'longtask'})";
    browser.script(watch).await;
    for round in 1..=5 {
        let lines: String =
            (0..1_000).map(|agent| finished(&format!("agent-with-a-long-name-{agent:04}"), round, true)).collect();
        service.events(&lines).await;
        let last = "[...document.querySelectorAll('#agents tr')].every(row => +row.children[1].textContent > ";
        browser.until(&format!("{last}{round})"), true).await;
    }
    let busy = browser.script("return busy").await;
    let longest = busy.as_array().unwrap().iter().filter_map(Value::as_f64).fold(0.0, f64::max);
    eprintln!("500 of 1,000 objectives that all change: no task longer than {longest:.0} ms (0: none above 50)");
    browser.client.set_window_size(400, 900).await.unwrap();
    browser.until("document.scrollingElement.scrollWidth <= window.innerWidth", true).await;
    browser.client.goto(&format!("{}/#/slo/answers/agent-with-a-long-name-0000", service.server.url())).await.unwrap();
    browser.until("document.querySelectorAll('#detail canvas').length >= 2", true).await;
    browser.until("document.scrollingElement.scrollWidth <= window.innerWidth", true).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_accessible_by_screen_reader_and_keyboard() {
    let test = "the_page_is_accessible_by_screen_reader_and_keyboard";
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    service.events(&(tasks("well", 0, 40, true) + &tasks("spent", 0, 40, false))).await;
    service.events(&failed_calls("search", 5)).await;
    service.tasks_from_two_sources("twice", 6).await;
    service.until("/v1/alerts", |alerts| !alerts["alerts"].as_array().unwrap().is_empty()).await;
    for (scheme, is_dark) in
        [("--blink-settings=preferredColorScheme=0", true), ("--blink-settings=preferredColorScheme=1", false)]
    {
        let Some(browser) = Browser::open_with(test, &[scheme]).await else { return };
        for (path, ready) in [
            (
                "/",
                "document.querySelectorAll('#slos .slo').length === 3 && document.querySelectorAll('#overlaps li').length === 1 && document.querySelectorAll('#alerts li').length > 0 && document.querySelectorAll('#breakers tr').length === 2",
            ),
            ("/#/slo/answers/spent", "document.querySelectorAll('#detail canvas').length >= 3"),
        ] {
            browser.client.goto("about:blank").await.unwrap();
            browser.client.goto(&format!("{}{path}", service.server.url())).await.unwrap();
            browser.until(ready, true).await;
            browser.until("matchMedia('(prefers-color-scheme: dark)').matches", is_dark).await;
            let Some(found) = violations(&browser, test).await else { return };
            assert_eq!(found, json!([]), "{path}, dark: {is_dark}");
        }
        browser.close().await;
    }
    let Some(browser) = Browser::open(test).await else { return };
    // Keyboard navigation: the skip link, the filter, then the objectives.
    browser.client.goto(&service.server.url()).await.unwrap();
    browser.until("document.querySelectorAll('#slos .slo').length", 3).await;
    let press =
        async |key: Key| browser.client.active_element().await.unwrap().send_keys(&key.to_string()).await.unwrap();
    press(Key::Tab).await;
    browser.until("document.activeElement.className", "skip").await;
    let mut reached = Vec::new();
    for _ in 0..6 {
        press(Key::Tab).await;
        reached.push(browser.script("return document.activeElement.id || document.activeElement.textContent").await);
    }
    assert!(reached.contains(&json!("filter")) && reached.contains(&json!("answers")), "{reached:?}");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tokens_the_page_asks_for_one() {
    let Some(browser) = Browser::open("with_tokens_the_page_asks_for_one").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let (token, digest) = sre_server::Token::generate().unwrap();
    let settings = format!("tokens: [{{name: people, scope: read, sha256: {digest}}}]");
    let tokens = Config::parse(&settings, "sre.yaml").unwrap().tokens;
    let service = Service::start(Config { tokens, ..config(folder.path()) }).await;
    browser.client.goto(&service.server.url()).await.unwrap();
    browser.until("document.getElementById('token').hidden", false).await;
    let secret = browser.client.find(Locator::Id("secret")).await.unwrap();
    secret.send_keys("sre_wrong").await.unwrap();
    secret.send_keys(&Key::Enter.to_string()).await.unwrap();
    browser.until("document.getElementById('secret').value", "").await;
    browser.until("document.getElementById('token').hidden", false).await;
    secret.send_keys(&token).await.unwrap();
    secret.send_keys(&Key::Enter.to_string()).await.unwrap();
    browser.until("document.getElementById('connection').textContent", "live").await;
    browser.until("document.getElementById('token').hidden", true).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_circuits_and_a_cascade_are_shown() {
    let Some(browser) = Browser::open("open_circuits_and_a_cascade_are_shown").await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    service.events(&tasks("well", 0, 1, true)).await;
    browser.client.goto(&service.server.url()).await.unwrap();
    browser.until("document.querySelectorAll('#slos .slo').length", 1).await;
    browser.until("document.getElementById('breaker-table').hidden", true).await;
    service.events(&failed_calls("search", 5)).await;
    let first =
        "[...document.querySelectorAll('#breakers tr:first-child > *')].slice(0, 2).map(cell => cell.textContent)";
    browser.until(first, json!(["tool search", "open"])).await;
    service.events(&(failed_calls("read", 5) + &failed_calls("write", 5))).await;
    browser.until("document.querySelectorAll('#breakers tr').length", 3).await;
    browser.until("document.querySelectorAll('#cascades li').length", 1).await;
    browser.until("/search/.test(document.querySelector('#cascades li').textContent)", true).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_label_of_an_axis_is_whole() {
    let Some(browser) = Browser::open("every_label_of_an_axis_is_whole").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    service.events(&tasks("slow", 0, 40, true).replace("\"duration_ms\":20}", "\"duration_ms\":1500}")).await;
    browser.client.goto(&service.server.url()).await.unwrap();
    browser.until("document.querySelectorAll('#slos .slo').length", 1).await;
    let record = "window.labels = []; const draw = CanvasRenderingContext2D.prototype.fillText; \
                  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) { \
                    const width = this.measureText(text).width; \
                    const left = {right: x - width, center: x - width / 2}[this.textAlign] ?? x; \
                    labels.push([text, this.getTransform().transformPoint(new DOMPoint(left, y)).x]); \
                    return draw.apply(this, arguments); }";
    browser.script(record).await;
    browser.script("document.querySelector('#slos a').click()").await;
    browser.until("labels.some(([text]) => text === '1,500 ms')", true).await;
    let cut = browser.script("return labels.filter(([, left]) => left < 0)").await;
    assert_eq!(cut, json!([]));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_has_the_time_of_which_it_is() {
    let Some(browser) = Browser::open("a_budget_has_the_time_of_which_it_is").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    service.events(&tasks("spent", 0, 40, false)).await;
    let alerts = service.until("/v1/alerts", |alerts| alerts["alerts"].as_array().unwrap().len() == 1).await;
    browser.client.goto(&service.server.url()).await.unwrap();
    browser.until("document.querySelectorAll('#alerts li').length", 1).await;
    browser.until("/^as of \\d/.test(document.getElementById('as-of').textContent)", true).await;
    let alert = &alerts["alerts"][0];
    browser.until("document.querySelector('#alerts time').dateTime", alert["at"].clone()).await;
    let local = format!("new Date('{}').toLocaleString()", alert["at"].as_str().unwrap());
    browser.until(&format!("document.querySelector('#alerts time').textContent === {local}"), true).await;
    let message = alert["alert"]["message"].as_str().unwrap();
    assert!(message.contains("% of the budget was consumed at 20"), "{message}");
    browser.close().await;
}
