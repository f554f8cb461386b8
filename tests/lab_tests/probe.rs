//! A function and an extension in one program, for the tests of the lab itself. Under the name
//! `bootstrap` it uses Lambda's Runtime API, under any other the Extensions API. Both use plain
//! sockets and the standard library alone, so that the tests observe the emulator and not another
//! client of it.
//!
//! The function returns `{"echo": <event>, "deadline": <header>, "pid": <own>}`. Fields of an event
//! change that. `{"error": "…"}` returns a function error, `{"crash": n}` exits with code `n`, and
//! `{"hang": true}` never responds. `{"until": "…"}` responds once that file is in `/tmp`, and
//! `{"long": n}` responds with `n` more bytes. With `AWS_LAMBDA_MAX_CONCURRENCY` it takes that many
//! concurrent events. With `PROBE_RESTORE`, under `SnapStart`, it waits for the restore and prints the
//! credentials before and after it. With `PROBE_RESTORE=error` it then reports an error and exits.
//!
//! The extension prints every event. It exits at its `n`th INVOKE if `PROBE_EXIT_AT_INVOKE` is `n`,
//! and reports an Init error if `PROBE_FAIL_IN_INIT` is set. After an event of the type in
//! `PROBE_HANG_AT` it never calls `next` again. It registers for `PROBE_EVENTS` instead of
//! `"INVOKE","SHUTDOWN"`. It stays in Init until the file named by `PROBE_STAY_IN_INIT` is in
//! `/tmp`, and in the tail of an invocation until that of `PROBE_STAY_IN_TAIL` is. Before waiting
//! it creates a file of the same name with the suffix `-entered`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

struct RawResponse {
    head: String,
    body: String,
}

impl RawResponse {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

fn call(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<RawResponse> {
    let address = std::env::var("AWS_LAMBDA_RUNTIME_API").map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect(&address)?;
    let mut extra = String::new();
    for (name, value) in headers {
        extra = format!("{extra}{name}: {value}\r\n");
    }
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{extra}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let mut body = String::new();
    reader.read_to_string(&mut body)?;
    Ok(RawResponse { head, body })
}

/// Value of a top-level string or number field, sufficient for the events of these tests.
fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let rest = rest.trim_start();
    match rest.strip_prefix('"') {
        Some(text) => text.split('"').next(),
        None => rest.split([',', '}']).next().map(str::trim),
    }
}

/// Waits for a file in `/tmp`.
fn stay_until(file: &str) {
    let file = std::path::Path::new("/tmp").join(file);
    while !file.exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Like [`stay_until`], after creating a file that reports the wait.
fn stay(variable: &str) {
    if let Ok(file) = std::env::var(variable) {
        let _ = std::fs::write(format!("/tmp/{file}-entered"), "");
        stay_until(&file);
    }
}

fn function() -> std::io::Result<()> {
    println!("function: started, pid {}", std::process::id());
    if let Ok(outcome) = std::env::var("PROBE_RESTORE") {
        restore(&outcome)?;
    }
    let workers = std::env::var("AWS_LAMBDA_MAX_CONCURRENCY").ok();
    let workers: usize = workers.and_then(|text| text.parse().ok()).unwrap_or(1);
    let others: Vec<_> = (1..workers).map(|_| std::thread::spawn(work)).collect();
    let result = work();
    drop(others);
    result
}

fn restore(outcome: &str) -> std::io::Result<()> {
    const API: &str = "/2018-06-01/runtime/restore";
    print_credentials()?;
    call("GET", &format!("{API}/next"), &[], "")?;
    print_credentials()?;
    if outcome == "error" {
        let headers = [("Lambda-Runtime-Function-Error-Type", "Probe.Restore")];
        call("POST", &format!("{API}/error"), &headers, "{}")?;
        std::process::exit(1);
    }
    Ok(())
}

fn print_credentials() -> std::io::Result<()> {
    let token = std::env::var("AWS_CONTAINER_AUTHORIZATION_TOKEN").unwrap_or_default();
    let headers = [("Authorization", &*token)];
    let answer = call("GET", "/2021-04-23/credentials", &headers, "")?;
    let key = field(&answer.body, "AccessKeyId").unwrap_or_default();
    println!("function: credentials {key}");
    Ok(())
}

fn work() -> std::io::Result<()> {
    const API: &str = "/2018-06-01/runtime/invocation";
    loop {
        let event = call("GET", &format!("{API}/next"), &[], "")?;
        let id = event
            .header("Lambda-Runtime-Aws-Request-Id")
            .unwrap_or_default();
        let deadline = event
            .header("Lambda-Runtime-Deadline-Ms")
            .unwrap_or_default();
        println!("function: event {}", event.body);
        if let Some(code) = field(&event.body, "crash") {
            std::process::exit(code.parse().unwrap_or(1));
        }
        if field(&event.body, "hang").is_some() {
            std::thread::park();
        }
        if let Some(message) = field(&event.body, "error") {
            let body = format!(r#"{{"errorType":"Probe.Asked","errorMessage":"{message}"}}"#);
            let headers = [("Lambda-Runtime-Function-Error-Type", "Probe.Asked")];
            call("POST", &format!("{API}/{id}/error"), &headers, &body)?;
            continue;
        }
        if let Some(file) = field(&event.body, "until") {
            stay_until(file);
        }
        let long = field(&event.body, "long").and_then(|text| text.parse().ok());
        let answer = format!(
            r#"{{"echo":{},"deadline":{deadline},"pid":{}{}}}"#,
            event.body,
            std::process::id(),
            " ".repeat(long.unwrap_or_default())
        );
        call("POST", &format!("{API}/{id}/response"), &[], &answer)?;
    }
}

fn extension(name: &str) -> std::io::Result<()> {
    const API: &str = "/2020-01-01/extension";
    let last: Option<u32> = std::env::var("PROBE_EXIT_AT_INVOKE")
        .ok()
        .and_then(|text| text.parse().ok());
    let hang_at = std::env::var("PROBE_HANG_AT").ok();
    let events = std::env::var("PROBE_EVENTS");
    let events = events.unwrap_or_else(|_| r#""INVOKE","SHUTDOWN""#.to_owned());
    let registered = call(
        "POST",
        &format!("{API}/register"),
        &[
            ("Lambda-Extension-Name", name),
            ("Lambda-Extension-Accept-Feature", "accountId"),
        ],
        &format!(r#"{{"events":[{events}]}}"#),
    )?;
    let id = registered
        .header("Lambda-Extension-Identifier")
        .unwrap_or_default();
    println!("extension: registered {}", registered.body);
    if std::env::var_os("PROBE_FAIL_IN_INIT").is_some() {
        let headers = [
            ("Lambda-Extension-Identifier", id),
            ("Lambda-Extension-Function-Error-Type", "Extension.Probe"),
        ];
        let body = r#"{"errorMessage":"as asked","errorType":"Extension.Probe","stackTrace":[]}"#;
        let answer = call("POST", &format!("{API}/init/error"), &headers, body)?;
        println!("extension: init error taken: {}", answer.body.trim());
        std::process::exit(5);
    }
    let mut environment: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    environment.sort();
    println!("extension: environment {}", environment.join(" "));
    stay("PROBE_STAY_IN_INIT");
    let mut invokes = 0;
    loop {
        let event = call(
            "GET",
            &format!("{API}/event/next"),
            &[("Lambda-Extension-Identifier", id)],
            "",
        )?;
        println!("extension: event {}", event.body.trim());
        let kind = field(&event.body, "eventType");
        if kind.is_some() && kind == hang_at.as_deref() {
            std::thread::park();
        }
        match kind {
            Some("INVOKE") => {
                invokes += 1;
                if last == Some(invokes) {
                    std::process::exit(3);
                }
                stay("PROBE_STAY_IN_TAIL");
            }
            Some("SHUTDOWN") => {
                println!("extension: shutdown, done");
                return Ok(());
            }
            other => return Err(std::io::Error::other(format!("unknown event {other:?}"))),
        }
    }
}

fn main() -> std::io::Result<()> {
    let path = std::env::args().next().unwrap_or_default();
    match path.rsplit('/').next() {
        Some("bootstrap") => function(),
        name => extension(name.unwrap_or_default()),
    }
}
