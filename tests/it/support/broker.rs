//! A broker process of the test's own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

/// A running `weir serve`; killed when dropped.
pub struct Broker {
    process: Child,
    pub address: String,
    pub http: Client,
}

impl Broker {
    /// Starts on a free port with the given data directory and waits until it accepts.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with environment variables, say `WEIR__LIMITS__TOPICS_MAX`.
    pub fn start_with(data: &Path, environment: &[(&str, &str)]) -> Self {
        Self::start_at(data, "127.0.0.1:0", environment)
    }

    /// The same on a given address.
    pub fn start_at(data: &Path, listen: &str, environment: &[(&str, &str)]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["serve", "--listen", listen, "--data"])
            .arg(data)
            .current_dir(data.parent().expect("a directory within another"))
            .envs(environment.iter().copied())
            .env("WEIR_LOG", "off")
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the broker starts");
        let mut line = String::new();
        let stdout = process.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a first line");
        let Some(address) = line.trim().strip_prefix("weir listening on http://") else {
            let output = process.wait_with_output().expect("its end");
            panic!("no broker: {line:?} {}", String::from_utf8_lossy(&output.stderr));
        };
        Self { address: address.to_owned(), http: Client::new(), process }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Takes over a `weir serve` that was started in another way, once it accepts.
    pub async fn adopt(process: Child, address: &str) -> Self {
        super::eventually("it accepts", async || {
            tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await;
        Self { address: address.to_owned(), http: Client::new(), process }
    }

    /// Ends the process as a crash would.
    pub fn kill(mut self) {
        self.process.kill().expect("SIGKILL");
        self.process.wait().expect("its end");
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("it runs").count()
    }

    /// Memory it really occupies.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("Linux tells");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal, say `HUP`.
    pub fn signal(&self, name: &str) {
        let (signal, pid) = (format!("-{name}"), self.process.id().to_string());
        let sent = Command::new("kill").args([signal, pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// It has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("its state").is_none()
    }

    /// Waits for the process to end by itself.
    pub fn ended(mut self) -> ExitStatus {
        self.process.wait().expect("its end")
    }

    pub async fn get(&self, path: &str) -> Response {
        self.http.get(self.url(path)).send().await.expect("an answer")
    }

    /// A 200's JSON.
    pub async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.expect("JSON")
    }

    pub async fn put_topic(&self, topic: &str, settings: Value) -> Response {
        let url = self.url(&format!("/v1/topics/{topic}"));
        self.http.put(url).json(&settings).send().await.expect("an answer")
    }

    /// Publishes a raw body.
    pub async fn publish(
        &self,
        topic: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Response {
        let url = self.url(&format!("/v1/topics/{topic}/messages"));
        let request = self.http.post(url).header("content-type", content_type);
        request.body(body.into()).send().await.expect("an answer")
    }

    /// Plans a panic.
    pub async fn plan_fault(&self, seam: &str, nth: u64) {
        self.plan(json!({ "seam": seam, "nth": nth })).await;
    }

    /// Plans any fault.
    pub async fn plan(&self, plan: Value) {
        let url = self.url("/v1/debug/faults");
        let answer = self.http.post(url).json(&plan).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }

    /// The value of one series of `/metrics`; 0 when it is not there.
    pub async fn counted(&self, series: &str) -> u64 {
        let text = self.get("/metrics").await.text().await.expect("text");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<f64>().expect("a number") as u64)
    }

    /// Everything a topic holds, read by polling.
    pub async fn read_all(&self, topic: &str) -> Vec<Value> {
        let mut messages = Vec::new();
        let mut from = 0;
        loop {
            let page = self
                .json(&format!(
                    "/v1/topics/{topic}/messages?from={from}&max=10000&max_bytes=10000000"
                ))
                .await;
            from = page["next"].as_u64().expect("next");
            let mut found = page["messages"].as_array().expect("messages").clone();
            if found.is_empty() {
                assert_eq!(page["next"], page["head"], "an empty page only at the head");
                return messages;
            }
            messages.append(&mut found);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Checks that an answer is a problem object with this code, and gives it back.
pub async fn problem(response: Response, status: u16, code: &str) -> Value {
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status);
    for member in ["type", "title", "detail", "temporary"] {
        assert!(!problem[member].is_null(), "{member} is missing: {problem}");
    }
    problem
}
