//! Tests of the lab itself: its servers behave like AWS's, as seen through AWS's own SDKs, and its
//! execution environment behaves as documented.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

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
mod slow_folder;
