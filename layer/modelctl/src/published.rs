//! The manifest in S3: read, edit, one conditional write.

use std::time::SystemTime;

use anyhow::Context as _;
use model_sidecar::manifest::MAX_BYTES;
use serde_json::{Value, json};

use crate::changes;
use crate::console::Console;
use crate::context::Context;
use crate::document::Document;
use crate::failure::{Failure, rejected};
use crate::s3::{Bucket, Condition, S3Uri, Written};

/// Manifest in S3, in the state of the last read.
pub(crate) struct Published {
    pub(crate) bucket: Bucket,
    pub(crate) key: String,
    /// `ETag`, time of the last write, and content; `None` if there is no manifest.
    pub(crate) state: Option<State>,
}

/// State of a manifest in S3.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) etag: String,
    pub(crate) modified: SystemTime,
    pub(crate) document: Document,
}

/// Arguments of a command that changes a manifest by one write.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EditOptions {
    /// Show the change, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Reject the command unless the manifest has this `ETag`, which `status` shows
    #[arg(long, value_name = "ETAG")]
    pub(crate) if_match: Option<String>,
}

impl Published {
    /// Reads the manifest. A URI that ends in `/` stands for `manifest.json` in that folder.
    pub(crate) async fn read(uri: &S3Uri, context: &Context) -> anyhow::Result<Self> {
        let mut key = uri.key.clone();
        if key.is_empty() || key.ends_with('/') {
            key.push_str("manifest.json");
        }
        if !key.to_ascii_lowercase().ends_with(".json") {
            anyhow::bail!(
                "cannot use {uri} as a manifest: its name must end in .json; give s3://BUCKET/…/manifest.json"
            );
        }
        let bucket = Bucket::new(context.s3().await, &uri.bucket);
        let mut published = Self {
            bucket,
            key,
            state: None,
        };
        published.read_again().await?;
        Ok(published)
    }

    /// Reads the manifest again.
    pub(crate) async fn read_again(&mut self) -> anyhow::Result<()> {
        let content = self.bucket.get(&self.key, MAX_BYTES as u64).await?;
        self.state = match content {
            None => None,
            Some(content) => {
                let document = Document::parse(&content.bytes);
                let document = document.with_context(|| format!("cannot read {}", self.uri()))?;
                Some(State {
                    etag: content.etag,
                    modified: content.modified,
                    document,
                })
            }
        };
        Ok(())
    }

    /// URI of the manifest.
    pub(crate) fn uri(&self) -> String {
        self.bucket.uri(&self.key)
    }

    /// Folder of the manifest: empty, or with `/` at its end.
    pub(crate) fn folder(&self) -> &str {
        let name = self.key.rsplit('/').next().unwrap_or(&self.key);
        &self.key[..self.key.len() - name.len()]
    }

    /// Key of a path that is relative to the manifest's folder.
    pub(crate) fn key_of(&self, path: &str) -> String {
        format!("{}{path}", self.folder())
    }

    /// State of the manifest; an error if there is none.
    pub(crate) fn existing(&self) -> anyhow::Result<&State> {
        self.state.as_ref().with_context(|| {
            format!(
                "cannot find {}: there is no such object; `modelctl publish` creates it",
                self.uri()
            )
        })
    }

    /// Writes a manifest in place of the one that was read.
    pub(crate) async fn write(&self, document: &Document) -> anyhow::Result<Written> {
        let condition = match &self.state {
            None => Condition::Absent,
            Some(state) => Condition::Matches(state.etag.clone()),
        };
        self.bucket
            .put_json(&self.key, document.to_bytes()?, &condition)
            .await
    }

    /// Applies an edit with one conditional write, after the change was shown. If another publisher
    /// writes in between, the command ends, since the state is not what the user saw.
    pub(crate) async fn edit(
        &mut self,
        options: &EditOptions,
        console: &Console,
        edit: impl FnOnce(&mut Document) -> anyhow::Result<()>,
    ) -> anyhow::Result<Value> {
        let state = self.existing()?;
        let unquoted = |etag: &str| etag.trim_matches('"').to_owned();
        if let Some(wanted) = &options.if_match
            && unquoted(wanted) != unquoted(&state.etag)
        {
            return Err(Failure::Conflict(format!(
                "cannot change {}: its ETag is {}, and --if-match expects {wanted}; look at `modelctl status` again",
                self.uri(),
                state.etag
            ))
            .into());
        }
        let mut document = state.document.clone();
        edit(&mut document).with_context(|| format!("cannot change {}", self.uri()))?;
        let is_same = document.manifest()? == state.document.manifest()?;
        let changes = changes::between(Some(&state.document), &document);
        let mut result = json!({
            "manifest": self.uri(),
            "changes": changes::to_json(&changes),
            "written": false,
            "etag": state.etag,
        });
        if is_same {
            console.line("nothing to change");
            return Ok(result);
        }
        changes::show(&changes, console);
        if options.dry_run {
            console.line("dry run: nothing was written");
            return Ok(result);
        }
        if !console.confirm(&format!("write {}?", self.uri())) {
            return Err(rejected("cancelled: nothing was written"));
        }
        match self.write(&document).await? {
            Written::Stored(etag) => {
                console.line(format_args!("wrote {}", self.uri()));
                result["etag"] = json!(etag);
                result["written"] = json!(true);
                Ok(result)
            }
            Written::Conflict => {
                self.read_again().await?;
                let now = self.existing()?;
                if now.document.manifest()? == document.manifest()? {
                    // A lost response, or another publisher with the same intent.
                    console.line(format_args!("{} is so already", self.uri()));
                    result["etag"] = json!(now.etag);
                    return Ok(result);
                }
                Err(Failure::Conflict(format!(
                    "cannot write {}: it was changed in between, and is not what was shown; look at `modelctl status`, \
                     and run the command again",
                    self.uri()
                ))
                .into())
            }
        }
    }
}
