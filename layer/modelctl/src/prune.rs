//! `modelctl prune`: removes versions without a role, and objects that nothing has named for long.
//!
//! The manifest comes first: versions that are neither current nor previous, canary or labelled are
//! removed from it by one conditional write. Their objects stay, because environments that run an
//! old manifest may still fetch them. An object is deleted only if all of these hold:
//!
//! - A manifest of this location named it, or `publish` uploaded it for this manifest.
//! - No state of the manifest in the last days named it. A bucket without versioning does not keep
//!   earlier states, so that the present manifest must be older than that.
//! - The object itself is older than that, since a publisher may be about to name it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::changes::counted;
use crate::console::Console;
use crate::context::Context;
use crate::failure::Failure;
use crate::history;
use crate::publish::OWNER;
use crate::published::{EditOptions, Published};
use crate::s3::{Listed, S3Uri, date};
use crate::status;
use crate::units;

/// Remove versions without a role, and objects that nothing has named for 14 days
///
/// Shows its plan, and does nothing without --apply. A bucket that keeps versions gets delete
/// markers: the data stay until a lifecycle rule removes noncurrent versions.
#[derive(clap::Args)]
#[command(after_help = "Example:
  modelctl prune s3://models/fraud/manifest.json --apply")]
pub(crate) struct Arguments {
    /// The manifest
    manifest: S3Uri,
    /// Do it
    #[arg(long, conflicts_with = "dry_run")]
    apply: bool,
    /// Minimum number of days for which nothing has named an object
    #[arg(long, value_name = "DAYS", default_value_t = 14)]
    days: u32,
    /// Keep this version in the manifest; repeatable
    #[arg(long, value_name = "NAME")]
    keep: Vec<String>,
    #[command(flatten)]
    edit: EditOptions,
}

/// Object that may be deleted.
struct Unnamed {
    object: Listed,
    lock: Option<String>,
}

/// Removes versions and objects.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let mut published = Published::read(&arguments.manifest, context).await?;
    for version in &arguments.keep {
        published.existing()?.document.require(version)?;
    }
    let age = Duration::from_secs(u64::from(arguments.days) * 24 * 60 * 60);
    let cutoff = SystemTime::now() - age;
    // Before the manifest is written: the present state counts as a recent one.
    let plan = unnamed(&published, cutoff, console).await?;
    let edit = EditOptions {
        dry_run: !arguments.apply,
        ..arguments.edit.clone()
    };
    let mut result = published
        .edit(&edit, console, |document| {
            let before = document.clone();
            document
                .versions
                .retain(|name, _| !before.roles(name).is_empty() || arguments.keep.contains(name));
            Ok(())
        })
        .await?;
    let mut deleted = Vec::new();
    for Unnamed { object, lock } in &plan {
        let verb = if arguments.apply {
            "delete"
        } else {
            "would delete"
        };
        let lock = lock.as_ref();
        let lock = lock.map(|lock| format!(", protected by Object Lock: {lock}"));
        console.line(format_args!(
            "{verb} {} ({}, of {}{})",
            published.bucket.uri(&object.key),
            units::bytes(object.size),
            date(object.modified),
            lock.unwrap_or_default()
        ));
        deleted.push(&object.key);
    }
    if arguments.apply {
        delete(&mut published, &plan).await?;
    }
    noncurrent(&published, console).await;
    let bytes = plan.iter().map(|unnamed| unnamed.object.size).sum();
    console.line(format_args!(
        "{} ({}) that nothing has named for {} days",
        counted(plan.len(), "object"),
        units::bytes(bytes),
        arguments.days
    ));
    result["objects"] = json!(deleted);
    result["applied"] = json!(arguments.apply);
    Ok(result)
}

/// Finds the objects that may be deleted.
async fn unnamed(
    published: &Published,
    cutoff: SystemTime,
    console: &Console,
) -> anyhow::Result<Vec<Unnamed>> {
    let Some(named) = named(published, cutoff).await? else {
        console.line(
            "no object may be deleted yet: the manifest is newer than the limit, and the bucket has no earlier \
             version of it that shows what it named",
        );
        return Ok(Vec::new());
    };
    let owner = utf8_percent_encode(&published.key, NON_ALPHANUMERIC).to_string();
    let mut unnamed = Vec::new();
    for object in published.bucket.list(published.folder()).await? {
        let is_recent = named.recently.contains(&object.key);
        if object.key == published.key || is_recent || object.modified > cutoff {
            continue;
        }
        // Gone since it was listed.
        let Some(head) = published.bucket.head(&object.key).await? else {
            continue;
        };
        if named.ever.contains(&object.key) || head.metadata.get(OWNER) == Some(&owner) {
            unnamed.push(Unnamed {
                object,
                lock: head.lock,
            });
        }
    }
    Ok(unnamed)
}

/// Objects that states of the manifest named.
struct Named {
    /// In a state that was valid at the cutoff or later.
    recently: BTreeSet<String>,
    /// In any state that the bucket has.
    ever: BTreeSet<String>,
}

/// Reads the states of the manifest; `None` if they do not reach back to the cutoff.
async fn named(published: &Published, cutoff: SystemTime) -> anyhow::Result<Option<Named>> {
    let (mut recently, mut ever) = (BTreeSet::new(), BTreeSet::new());
    let state = published.existing()?;
    recently.extend(status::objects(published, &state.document.manifest()?).into_keys());
    let mut reached = state.modified <= cutoff;
    for version in history::versions(published).await? {
        let modified = version.modified;
        let past = history::read(published, version).await?;
        if let Ok(document) = past.document {
            let objects = status::objects(published, &document.manifest()?);
            ever.extend(objects.keys().cloned());
            if !reached {
                recently.extend(objects.into_keys());
            }
        }
        // The newest state that is older than the cutoff was valid at the cutoff.
        reached = reached || modified <= cutoff;
    }
    ever.extend(recently.iter().cloned());
    Ok(reached.then_some(Named { recently, ever }))
}

/// Deletes the objects. Ends if another publisher writes, since it may name them again.
async fn delete(published: &mut Published, plan: &[Unnamed]) -> anyhow::Result<()> {
    if plan.is_empty() {
        return Ok(());
    }
    published.read_again().await?;
    let manifest = published.existing()?.document.manifest()?;
    let named = status::objects(published, &manifest);
    if let Some(again) = plan.iter().find(|one| named.contains_key(&one.object.key)) {
        return Err(Failure::Conflict(format!(
            "cannot delete {}: another publisher has named it again; run the command again",
            published.bucket.uri(&again.object.key)
        ))
        .into());
    }
    for unnamed in plan {
        published.bucket.delete(&unnamed.object.key).await?;
    }
    Ok(())
}

/// Reports the noncurrent versions below the manifest's folder, if the bucket keeps versions and
/// they may be listed.
async fn noncurrent(published: &Published, console: &Console) {
    let Ok(versions) = published.bucket.versions(published.folder()).await else {
        return;
    };
    let mut by_key: BTreeMap<&str, u64> = BTreeMap::new();
    let old = versions
        .iter()
        .filter(|version| !version.is_latest && !version.is_delete_marker);
    for version in old.filter(|version| version.key != published.key) {
        *by_key.entry(&version.key).or_default() += version.size;
    }
    if !by_key.is_empty() {
        console.line(format_args!(
            "noncurrent versions of {} have {}; a lifecycle rule (NoncurrentVersionExpiration) removes them",
            counted(by_key.len(), "object"),
            units::bytes(by_key.values().sum())
        ));
    }
}
