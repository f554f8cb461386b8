//! Architectures of Lambda.

use std::fmt;

use clap::ValueEnum;

/// Architecture of an artefact. Lambda and the artefacts say `arm64`, Rust says `aarch64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    #[value(name = "x86_64")]
    X86,
    #[value(name = "arm64", alias = "aarch64")]
    Arm,
}

impl Arch {
    /// Name in Rust's targets.
    pub(crate) fn rust(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }

    /// Rust's target, without the version of glibc.
    pub(crate) fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.rust())
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::X86 => "x86_64",
            Self::Arm => "arm64",
        })
    }
}
