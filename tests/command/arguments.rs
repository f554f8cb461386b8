//! The command's arguments. What cannot be is refused here, with the flag, the value and what is
//! allowed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lab::lambda::{Clock, ShutdownReason};

use crate::units::{bytes, duration, folder, function_folder, time_limit, variable};

/// A Lambda platform on this machine.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
pub(crate) struct Lab {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a function and a layer, and answer invocations
    Serve(Box<Serve>),
    /// Show the environments
    Status(Server),
    /// Freeze environments, as Lambda does between invocations
    Freeze(Freeze),
    /// Let frozen environments go on
    Thaw(Target),
    /// End the processes of environments as after a failure: /tmp stays, the next invocation
    /// begins with an Init
    Reset(End),
    /// End environments; with none named, the server too
    Shutdown(End),
}

/// What to run, and how.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The layer's folder, seen at /opt; its extensions are in DIR/extensions
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub(crate) layer: Option<PathBuf>,
    /// The function's folder, seen at /var/task; it holds the program `bootstrap`
    #[arg(long, value_name = "DIR", value_parser = function_folder)]
    pub(crate) function: PathBuf,
    /// The handler setting, which `_HANDLER` tells the runtime
    #[arg(long, default_value = "bootstrap")]
    pub(crate) handler: String,
    /// Memory of an environment; CPU comes in proportion, 1 vCPU at 1769
    #[arg(long, value_name = "MB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(128..=10_240))]
    pub(crate) memory: u32,
    /// Time for an invocation, 1s to 15m
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time_limit)]
    pub(crate) timeout: Duration,
    /// Time for Init on demand; it is abandoned after it and done again under the first invocation
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time_limit)]
    pub(crate) init_limit: Duration,
    /// A variable of the function's configuration; may be given again
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) variables: Vec<(String, String)>,
    /// Where to listen on 127.0.0.1; 0 takes a free port
    #[arg(long, default_value_t = DEFAULT_PORT)]
    pub(crate) port: u16,
    /// What the processes' clocks do in a freeze
    #[arg(long, value_enum, default_value = "real")]
    pub(crate) clock: ClockKind,
    /// How many environments there may be at once
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) concurrency: u32,
    /// Run on managed instances, with so many invocations at once in one environment
    #[arg(long, value_name = "N", conflicts_with = "concurrency", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) managed: Option<u32>,
    /// The size of /tmp, 512 on Lambda by default; takes root. Without it /tmp is unlimited
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..=10_240))]
    pub(crate) tmp_mb: Option<u32>,
    /// Take an environment away after so long without an invocation
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) idle_limit: Option<Duration>,
    /// Bandwidth to each endpoint that an `AWS_ENDPOINT_URL*` variable names, a second, as 75MB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) bandwidth: Option<u64>,
    /// What a byte takes longer to those endpoints and back again, each way
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) latency: Option<Duration>,
}

const DEFAULT_PORT: u16 = 9000;

/// Which server to talk to.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// The port of `lab serve`
    #[arg(long, default_value_t = DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
}

/// Which environments to act on.
#[derive(Debug, Args)]
pub(crate) struct Target {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The environment's number, as `lab status` shows it; all when there is none
    #[arg(long, value_name = "N")]
    pub(crate) environment: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct Freeze {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Let so much time pass, and thaw again; at once with a clock that is not real
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) time: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct End {
    #[command(flatten)]
    pub(crate) target: Target,
    /// What SHUTDOWN says to extensions: failure in a reset and spindown in a shutdown, unless
    /// told
    #[arg(long, value_enum)]
    pub(crate) reason: Option<Reason>,
}

/// What the processes' clocks do in a freeze.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ClockKind {
    /// They are the machine's own
    Real,
    /// Wall clock and monotonic clock go on
    Jumps,
    /// The wall clock goes on, the monotonic clock stands still
    StandsStill,
}

impl From<ClockKind> for Clock {
    fn from(kind: ClockKind) -> Self {
        match kind {
            ClockKind::Real => Self::Real,
            ClockKind::Jumps => Self::Jumps,
            ClockKind::StandsStill => Self::StandsStill,
        }
    }
}

/// Why an environment ends.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Reason {
    /// It is no longer needed
    Spindown,
    /// An invocation took too long
    Timeout,
    /// A process died
    Failure,
}

impl From<Reason> for ShutdownReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Spindown => Self::Spindown,
            Reason::Timeout => Self::Timeout,
            Reason::Failure => Self::Failure,
        }
    }
}

#[test]
fn the_arguments_make_sense_to_clap() {
    use clap::CommandFactory as _;
    Lab::command().debug_assert();
}
