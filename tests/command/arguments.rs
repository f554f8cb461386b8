//! Arguments of the command. Invalid values are rejected here, with the flag, the value and the
//! allowed values.

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
    Serve(Box<ServeArguments>),
    /// Show the environments
    Status(ServerArguments),
    /// Freeze environments, as Lambda does between invocations
    Freeze(FreezeArguments),
    /// Thaw frozen environments
    Thaw(TargetArguments),
    /// End the processes of environments as after a failure: /tmp is kept, the next invocation
    /// begins with an Init
    Reset(EndArguments),
    /// Shut down environments; without a number, all of them and the server
    Shutdown(EndArguments),
}

/// Function, layer and platform settings.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The layer's folder, mounted at /opt; its extensions are in DIR/extensions
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub(crate) layer: Option<PathBuf>,
    /// The function's folder, mounted at /var/task; it contains the program `bootstrap`
    #[arg(long, value_name = "DIR", value_parser = function_folder)]
    pub(crate) function: PathBuf,
    /// The function's handler, which the runtime gets as `_HANDLER`
    #[arg(long, default_value = "bootstrap")]
    pub(crate) handler: String,
    /// Memory size; CPU is in proportion, 1 vCPU at 1769
    #[arg(long, value_name = "MB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(128..=10_240))]
    pub(crate) memory: u32,
    /// Timeout of an invocation, 1s to 15m
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time_limit)]
    pub(crate) timeout: Duration,
    /// Limit of Init on demand; afterwards Init is repeated as part of the first invocation
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time_limit)]
    pub(crate) init_limit: Duration,
    /// Environment variable of the function; repeatable
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) variables: Vec<(String, String)>,
    /// Port on 127.0.0.1; 0 selects a free port
    #[arg(long, default_value_t = DEFAULT_PORT)]
    pub(crate) port: u16,
    /// Clocks of the processes during a freeze
    #[arg(long, value_enum, default_value = "real")]
    pub(crate) clock: ClockKind,
    /// Maximum number of concurrent environments
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) concurrency: u32,
    /// Emulate managed instances with N concurrent invocations in one environment
    #[arg(long, value_name = "N", conflicts_with = "concurrency", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) managed: Option<u32>,
    /// Emulate SnapStart: Init runs at the start, and the first invocation restores its snapshot
    #[arg(long, conflicts_with = "managed")]
    pub(crate) snap_start: bool,
    /// Size of /tmp, by default 512 on Lambda; requires root. Without it /tmp is unlimited
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..=10_240))]
    pub(crate) tmp_mb: Option<u32>,
    /// Remove an environment after this time without an invocation
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) idle_limit: Option<Duration>,
    /// Collect the metrics in a CloudWatch of the lab, and serve the dashboard at /
    #[arg(long)]
    pub(crate) dashboard: bool,
    /// Bandwidth per second to each endpoint in an `AWS_ENDPOINT_URL*` variable, such as 75MB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) bandwidth: Option<u64>,
    /// Latency to those endpoints, each way
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) latency: Option<Duration>,
}

const DEFAULT_PORT: u16 = 9000;

/// Server to connect to.
#[derive(Debug, Args)]
pub(crate) struct ServerArguments {
    /// Port of `lab serve`
    #[arg(long, default_value_t = DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
}

/// Environments to act on.
#[derive(Debug, Args)]
pub(crate) struct TargetArguments {
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    /// Number of the environment, shown by `lab status`; default: all
    #[arg(long, value_name = "N")]
    pub(crate) environment: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct FreezeArguments {
    #[command(flatten)]
    pub(crate) target: TargetArguments,
    /// Let this much time pass, then thaw; takes no real time unless the clock is real
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) time: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct EndArguments {
    #[command(flatten)]
    pub(crate) target: TargetArguments,
    /// Reason in SHUTDOWN; default: failure for a reset, spindown for a shutdown
    #[arg(long, value_enum)]
    pub(crate) reason: Option<Reason>,
}

/// Clocks of the processes during a freeze.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ClockKind {
    /// The machine's clocks
    Real,
    /// Wall clock and monotonic clock advance
    Jumps,
    /// The wall clock advances, the monotonic clock stands still
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

/// Reason of a shutdown.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Reason {
    /// The environment is no longer needed
    Spindown,
    /// An invocation exceeded its timeout
    Timeout,
    /// A process exited
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
