//! The model alone, for `make bench-inference`: executes a given number of runs, and reports the
//! duration of each.
//!
//! The lower bound for any server of the model: the input's numbers into a tensor, the run, the
//! outputs. No request, no socket, no JSON. Sessions are created like those of the sidecar's
//! engine. Each thread of a concurrent run has a session of its own, so that nothing is shared
//! unnecessarily.
//!
//! `bench-runs LIBRARY THREADS NAME=FILE,INPUT,DIMENSION,… …` names ONNX Runtime, the threads of
//! one run, and the models: file, file of the input's numbers, shape. It then reads one command per
//! line and prints one line each. `times NAME COUNT` prints the nanoseconds of COUNT runs. `load
//! NAME THREADS MILLISECONDS` prints the number of runs that the threads completed in about that
//! time, and the elapsed nanoseconds.

mod engine;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ort::environment::Environment;
use ort::session::Session;
use ort::value::{DynValue, Tensor};

struct Model {
    file: PathBuf,
    input: Vec<f32>,
    shape: Vec<usize>,
    sessions: Vec<Session>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, threads, models @ ..] = &arguments[..] else {
        bail!("usage: bench-runs LIBRARY THREADS NAME=FILE,INPUT,DIMENSION,… …");
    };
    let environment = engine::open(Path::new(library), threads.parse()?)?;
    let mut models = models
        .iter()
        .map(|text| Model::parse(text))
        .collect::<Result<BTreeMap<String, Model>>>()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["times", name, count] => {
                times(named(&mut models, name)?, count.parse()?, &environment)?
            }
            ["load", name, threads, ms] => {
                let time = Duration::from_millis(ms.parse()?);
                load(
                    named(&mut models, name)?,
                    threads.parse()?,
                    time,
                    &environment,
                )?
            }
            _ => bail!("unknown command: {line}"),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn named<'a>(models: &'a mut BTreeMap<String, Model>, name: &str) -> Result<&'a mut Model> {
    let model = models.get_mut(name);
    model.with_context(|| format!("no model {name}"))
}

impl Model {
    fn parse(text: &str) -> Result<(String, Self)> {
        let (name, rest) = text.split_once('=').context("no name")?;
        let mut parts = rest.split(',');
        let mut file = || parts.next().map(PathBuf::from).context("no file");
        let (file, numbers) = (file()?, file()?);
        let numbers = fs::read(&numbers).with_context(|| format!("no {}", numbers.display()))?;
        let shape = parts.map(str::parse).collect::<Result<_, _>>()?;
        let input = numbers.chunks_exact(4);
        let model = Self {
            file,
            input: input
                .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
                .collect(),
            shape,
            sessions: Vec::new(),
        };
        Ok((name.to_owned(), model))
    }

    /// Returns `count` sessions, creating and keeping the missing ones.
    fn sessions(&mut self, count: usize, environment: &Environment) -> Result<&mut [Session]> {
        while self.sessions.len() < count {
            let session = Session::builder(environment)?.commit_from_file(&self.file)?;
            self.sessions.push(session);
        }
        Ok(&mut self.sessions[..count])
    }
}

fn run(session: &mut Session, input: &[f32], shape: &[usize]) -> Result<()> {
    let name = session
        .inputs()
        .first()
        .context("no input")?
        .name()
        .to_owned();
    let tensor: DynValue = Tensor::from_array((shape, input.to_vec()))?.into_dyn();
    let outputs = session.run(vec![(name, tensor)])?;
    std::hint::black_box(&outputs);
    Ok(())
}

fn times(model: &mut Model, count: usize, environment: &Environment) -> Result<String> {
    let (input, shape) = (model.input.clone(), model.shape.clone());
    let session = &mut model.sessions(1, environment)?[0];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        run(session, &input, &shape)?;
        times.push(started.elapsed().as_nanos().to_string());
    }
    Ok(times.join(" "))
}

fn load(
    model: &mut Model,
    threads: usize,
    time: Duration,
    environment: &Environment,
) -> Result<String> {
    let (input, shape) = (model.input.clone(), model.shape.clone());
    let sessions = model.sessions(threads, environment)?;
    let started = Instant::now();
    let counts = thread::scope(|scope| {
        let (input, shape) = (&input, &shape);
        let threads: Vec<_> = sessions
            .iter_mut()
            .map(|session| {
                scope.spawn(move || {
                    let mut count = 0_usize;
                    while started.elapsed() < time {
                        run(session, input, shape)?;
                        count += 1;
                    }
                    anyhow::Ok(count)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().ok().context("a thread panicked")?)
            .collect::<Result<Vec<usize>>>()
    })?;
    let (runs, took) = (counts.iter().sum::<usize>(), started.elapsed());
    Ok(format!("{runs} {}", took.as_nanos()))
}
