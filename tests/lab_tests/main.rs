//! The lab's own tests: that its servers do what AWS's do, seen through AWS's own SDKs, and that
//! its execution environment does what its description says.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod cgroup;
mod clock;
mod cloudwatch;
mod command;
mod folders;
mod lambda;
mod link;
mod process;
mod rie;
mod s3;
mod s3_faults;
mod sandbox;
mod seaweedfs;
