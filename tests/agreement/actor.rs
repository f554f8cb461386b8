//! Runtime or extension of the agreement tests, which follows the script next to its binary (`lab::script`).
//!
//! The actor records every call and response in a file in `/tmp`. It uses plain sockets and the standard library, so
//! that a trace shows the platform and not a client library. A line `> …` is a call, and the line `< …` after it the
//! response; a call without a response has no such line. Deadlines (`deadlineMs`) are recorded as the remaining
//! milliseconds, since absolute times differ between runs.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::script::{self, Call, Step};

/// Interval and number of checks for a file.
const LOOK: (Duration, u32) = (Duration::from_millis(5), 12_000);

/// Response headers of the APIs, which the trace includes.
const HEADERS: [&str; 9] = [
    "content-type",
    "lambda-extension-event-identifier",
    "lambda-extension-identifier",
    "lambda-runtime-aws-request-id",
    "lambda-runtime-client-context",
    "lambda-runtime-cognito-identity",
    "lambda-runtime-deadline-ms",
    "lambda-runtime-invoked-function-arn",
    "lambda-runtime-trace-id",
];

fn main() -> ExitCode {
    match Actor::load().and_then(|mut actor| actor.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("actor: {problem}");
            ExitCode::from(99)
        }
    }
}

struct Actor {
    name: String,
    script: Vec<Step>,
    /// Number of this start in the environment, from 1.
    start: u32,
    id: String,
    request: String,
    last: String,
    /// Connections of calls without a response.
    pending: Vec<TcpStream>,
}

impl Actor {
    fn load() -> io::Result<Self> {
        let program = PathBuf::from(std::env::args().next().unwrap_or_default());
        let name = program.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let folder = if name == "bootstrap" {
            "/var/task"
        } else {
            "/opt/scripts"
        };
        let script = fs::read(Path::new(folder).join(script::file_of(&name)))?;
        let mut actor = Self {
            script: serde_json::from_slice(&script)?,
            name,
            start: 1,
            id: String::new(),
            request: String::new(),
            last: String::new(),
            pending: Vec::new(),
        };
        let trace = fs::read_to_string(actor.trace()).unwrap_or_default();
        let starts = trace.lines().filter(|line| *line == "start").count();
        actor.start += u32::try_from(starts).unwrap_or_default();
        actor.write("start")?;
        Ok(actor)
    }

    fn run(&mut self) -> io::Result<()> {
        let script = self.script.clone();
        self.steps(&script)
    }

    fn steps(&mut self, steps: &[Step]) -> io::Result<()> {
        for step in steps {
            self.step(step)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Call(call) => self.call(call),
            Step::Send(call) => {
                let stream = self.send(call)?;
                self.pending.push(stream);
                Ok(())
            }
            Step::Forever(steps) => loop {
                self.steps(steps)?;
            },
            Step::When(text, steps) if self.last.contains(text) => self.steps(steps),
            Step::AtStart(start, steps) if self.start == *start => self.steps(steps),
            Step::When(..) | Step::AtStart(..) => Ok(()),
            Step::Await(file) => self.wait_for(file),
            Step::Leave(file) => {
                let file = self.file(file);
                self.write(&format!("leaves {}", file.display()))?;
                fs::write(file, "")
            }
            Step::Look(file) => {
                let file = self.file(file);
                self.write(&format!("{} is there: {}", file.display(), file.exists()))
            }
            Step::Exit(code) => {
                self.write(&format!("exit {code}"))?;
                exit(i32::from(*code))
            }
            Step::Hang => loop {
                std::thread::park();
            },
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new("/tmp").join(name.replace("{start}", &self.start.to_string()))
    }

    fn wait_for(&self, name: &str) -> io::Result<()> {
        let file = self.file(name);
        for _ in 0..LOOK.1 {
            if file.exists() {
                return Ok(());
            }
            std::thread::sleep(LOOK.0);
        }
        Err(io::Error::other(format!(
            "{} does not exist",
            file.display()
        )))
    }

    /// Sends a call, and returns its connection.
    fn send(&self, call: &Call) -> io::Result<TcpStream> {
        let fill = |text: &str| {
            text.replace("{id}", &self.id)
                .replace("{request}", &self.request)
        };
        let (path, body) = (fill(&call.path), fill(&call.body));
        let headers = call.headers.iter();
        let headers: Vec<_> = headers
            .map(|(name, value)| format!("{name}: {}", fill(value)))
            .collect();
        let shown: Vec<_> = headers.iter().map(|line| format!(" [{line}]")).collect();
        let shown = shown.concat();
        self.write(format!("> {} {path}{shown} {body}", call.method).trim_end())?;

        send(&call.method, &path, &headers, &body)
    }

    fn call(&mut self, call: &Call) -> io::Result<()> {
        let answer = receive(self.send(call)?)?;
        if let Some(id) = answer.header("lambda-extension-identifier") {
            id.clone_into(&mut self.id);
        }
        if let Some(request) = answer.header("lambda-runtime-aws-request-id") {
            request.clone_into(&mut self.request);
        }
        let mut line = format!("< {}", answer.status());
        for name in HEADERS {
            let Some(value) = answer.header(name) else {
                continue;
            };
            let value = match name {
                "lambda-runtime-deadline-ms" => left(value),
                _ => value.to_owned(),
            };
            line = format!("{line} [{name}: {value}]");
        }
        line = format!("{line} {}", shown_body(&answer.body));
        self.last = answer.body;
        self.write(line.trim_end())
    }

    fn trace(&self) -> PathBuf {
        Path::new("/tmp").join(script::trace_of(&self.name))
    }

    /// Appends a line with a single write, so that a killed process leaves whole lines.
    fn write(&self, line: &str) -> io::Result<()> {
        let mut file = OpenOptions::new();
        let mut file = file.append(true).create(true).open(self.trace())?;
        file.write_all(format!("{line}\n").as_bytes())
    }
}

struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

fn send(method: &str, path: &str, headers: &[String], body: &str) -> io::Result<TcpStream> {
    let address = std::env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(&address)?;
    let headers: Vec<_> = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let headers = headers.concat();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    // A single write: a server that rejects the head resets the connection when a body follows, which could discard the
    // response.
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

fn receive(stream: TcpStream) -> io::Result<Answer> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let mut body = String::new();
    reader.read_to_string(&mut body)?;
    Ok(Answer { head, body })
}

/// Formats a JSON body with sorted fields and with its deadline as the remaining time.
fn shown_body(body: &str) -> String {
    let Ok(mut json) = serde_json::from_str::<serde_json::Value>(body) else {
        return body.trim().to_owned();
    };
    if let Some(deadline) = json.get_mut("deadlineMs") {
        *deadline = left(&deadline.to_string()).into();
    }
    json.to_string()
}

fn left(deadline: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    match (deadline.parse::<i128>(), now) {
        (Ok(deadline), Ok(now)) => {
            let left = deadline - i128::try_from(now.as_millis()).unwrap_or_default();
            format!("<{left} ms left>")
        }
        _ => format!("not a number: {deadline}"),
    }
}
