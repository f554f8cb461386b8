//! Content of a published file, decompressed and compared with its declaration.

use std::io::{self, Write};

use anyhow::Context as _;
use indicatif::ProgressBar;
use model_sidecar::manifest::PublishedFile;
use sha2::{Digest as _, Sha256};

use crate::published::Published;
use crate::s3::upload::hex;

/// Reads an object, and writes its decompressed content to `sink`. Returns the difference from the
/// declaration, if there is one.
pub(crate) async fn read(
    published: &Published,
    key: &str,
    file: &PublishedFile,
    sink: &mut (dyn Write + Send),
    progress: &ProgressBar,
) -> anyhow::Result<Option<String>> {
    let Some(mut body) = published.bucket.open(key).await? else {
        return Ok(Some("missing".to_owned()));
    };
    let mut content = Content::new(file.is_compressed())?;
    while let Some(bytes) = body.next().await {
        let bytes = bytes.with_context(|| format!("cannot read {}", published.bucket.uri(key)))?;
        progress.inc(bytes.len() as u64);
        match content.update(&bytes, sink) {
            Ok(()) => {}
            Err(Stopped::Damaged(reason)) => return Ok(Some(reason)),
            Err(Stopped::Sink(error)) => {
                return Err(error).context("cannot write the content of an object");
            }
        }
        if content.size > file.size {
            break;
        }
    }
    Ok(content.problem(file))
}

/// Reason to stop reading.
enum Stopped {
    Damaged(String),
    Sink(io::Error),
}

/// Content of an object, decompressed if it is compressed.
struct Content {
    decompressor: Option<zstd_safe::DCtx<'static>>,
    hash: Sha256,
    size: u64,
    /// `false` inside a frame of Zstandard.
    is_complete: bool,
}

impl Content {
    fn new(is_compressed: bool) -> anyhow::Result<Self> {
        let decompressor = is_compressed.then(|| {
            let context = zstd_safe::DCtx::try_create();
            context.context("cannot decompress: no memory for Zstandard")
        });
        Ok(Self {
            decompressor: decompressor.transpose()?,
            hash: Sha256::new(),
            size: 0,
            is_complete: !is_compressed,
        })
    }

    fn update(&mut self, bytes: &[u8], sink: &mut dyn Write) -> Result<(), Stopped> {
        let Some(decompressor) = &mut self.decompressor else {
            self.hash.update(bytes);
            self.size += bytes.len() as u64;
            return sink.write_all(bytes).map_err(Stopped::Sink);
        };
        let mut input = zstd_safe::InBuffer::around(bytes);
        let mut buffer = vec![0; zstd_safe::DCtx::out_size()];
        loop {
            let mut output = zstd_safe::OutBuffer::around(&mut buffer[..]);
            let hint = decompressor
                .decompress_stream(&mut output, &mut input)
                .map_err(|code| {
                    let name = zstd_safe::get_error_name(code);
                    Stopped::Damaged(format!("cannot decompress it: {name}"))
                })?;
            self.is_complete = hint == 0;
            let written = output.as_slice();
            self.hash.update(written);
            self.size += written.len() as u64;
            sink.write_all(written).map_err(Stopped::Sink)?;
            let is_full = written.len() == zstd_safe::DCtx::out_size();
            if input.pos() == bytes.len() && !is_full {
                return Ok(());
            }
        }
    }

    fn problem(self, file: &PublishedFile) -> Option<String> {
        let sha256 = hex(&self.hash.finalize());
        if !self.is_complete {
            Some("the Zstandard data is incomplete".to_owned())
        } else if self.size != file.size {
            Some(format!(
                "{} bytes or more, declared are {}",
                self.size, file.size
            ))
        } else if sha256 != file.digest.as_str() {
            Some(format!(
                "SHA-256 {sha256}, declared is {}",
                file.digest.as_str()
            ))
        } else {
            None
        }
    }
}
