//! The walk over a model: to every tensor that ONNX Runtime may read, and every node, wherever it lies.
//!
//! A tensor can be an initializer or the value of a node's attribute, in the graph, in a graph that is itself the
//! value of an attribute, or in a function; sparse tensors are two tensors. Where a model holds information for
//! training, ONNX Runtime does not read it, so the files that it names need not exist.
//!
//! The numbers are those of `onnx.proto`.

use std::collections::{BTreeMap, BTreeSet};

use super::wire::{DEPTH, Field, Reader, Span, deeper, enumeration, malformed};
use super::{Description, Fault, Format, OnnxError, operators};
use crate::ids::FilePath;

/// Exporters write one file, or one for each tensor; the largest models have thousands of tensors.
pub(super) const MAX_FILES: usize = 4096;

const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 16 * 1024;
const MAX_METADATA: usize = 256 * 1024;

/// More than any path that is allowed, so that one that is cut here is refused.
const MAX_LOCATION: usize = 4096;

/// The walk so far.
pub(super) struct Walk<'a, 'f> {
    reader: &'a mut Reader<'f>,
    files: BTreeSet<FilePath>,
    metadata: Metadata,
    has_fixed_work: bool,
}

/// A tensor, as far as it was met: protobuf allows a message in several pieces.
#[derive(Default)]
struct Tensor {
    name: Option<Span>,
    external: bool,
    location: Option<Span>,
}

#[derive(Default)]
struct SparseTensor {
    values: Tensor,
    indices: Tensor,
}

impl<'a, 'f> Walk<'a, 'f> {
    /// Walks over the whole file, and gives what it says.
    pub(super) fn over(reader: &'a mut Reader<'f>) -> Result<Description, Fault> {
        let whole = reader.whole();
        let mut walk = Self {
            reader,
            files: BTreeSet::new(),
            metadata: Metadata::default(),
            has_fixed_work: true,
        };
        walk.model(whole)?;
        Ok(Description {
            format: Format::Onnx,
            external: walk.files,
            metadata: walk.metadata.entries,
            has_fixed_work: walk.has_fixed_work,
        })
    }

    fn model(&mut self, mut span: Span) -> Result<(), Fault> {
        let end = span.end;
        let mut has_graph = false;
        while let Some(field) = self.reader.field(&mut span, DEPTH)? {
            match field {
                Field::Bytes(7, graph) => {
                    has_graph = true;
                    self.graph(graph, DEPTH)?;
                }
                Field::Bytes(14, entry) => self.metadata(entry)?,
                Field::Bytes(25, function) => self.function(function, DEPTH)?,
                _ => {}
            }
        }
        if has_graph {
            Ok(())
        } else {
            Err(malformed(end, "the file ends and there was no graph"))
        }
    }

    fn graph(&mut self, mut span: Span, depth: u32) -> Result<(), Fault> {
        let depth = deeper(depth, span.start)?;
        while let Some(field) = self.reader.field(&mut span, depth)? {
            match field {
                Field::Bytes(1, node) => self.node(node, depth)?,
                Field::Bytes(5, initializer) => self.whole_tensor(initializer)?,
                Field::Bytes(15, initializer) => self.whole_sparse_tensor(initializer)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn function(&mut self, mut span: Span, depth: u32) -> Result<(), Fault> {
        let depth = deeper(depth, span.start)?;
        // It may stand for any operator.
        self.has_fixed_work = false;
        while let Some(field) = self.reader.field(&mut span, depth)? {
            match field {
                Field::Bytes(7, node) => self.node(node, depth)?,
                Field::Bytes(11, default) => self.attribute(default, depth)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, mut span: Span, depth: u32) -> Result<(), Fault> {
        let depth = deeper(depth, span.start)?;
        let (mut operator, mut domain) = (0..0, 0..0);
        while let Some(field) = self.reader.field(&mut span, depth)? {
            match field {
                Field::Bytes(4, name) => operator = name,
                Field::Bytes(5, attribute) => self.attribute(attribute, depth)?,
                Field::Bytes(7, name) => domain = name,
                _ => {}
            }
        }
        if self.has_fixed_work {
            let domain = self.reader.bytes(&domain, operators::LONGEST)?;
            let known = operators::with_fixed_work(domain);
            let operator = self.reader.bytes(&operator, operators::LONGEST)?;
            self.has_fixed_work = known.iter().any(|name| name.as_bytes() == operator);
        }
        Ok(())
    }

    fn attribute(&mut self, mut span: Span, depth: u32) -> Result<(), Fault> {
        let depth = deeper(depth, span.start)?;
        let mut value = Tensor::default();
        let mut sparse = SparseTensor::default();
        while let Some(field) = self.reader.field(&mut span, depth)? {
            match field {
                Field::Bytes(5, piece) => self.tensor(piece, &mut value)?,
                Field::Bytes(6 | 11, graph) => self.graph(graph, depth)?,
                Field::Bytes(10, tensor) => self.whole_tensor(tensor)?,
                Field::Bytes(22, piece) => self.sparse_tensor(piece, &mut sparse)?,
                Field::Bytes(23, tensor) => self.whole_sparse_tensor(tensor)?,
                _ => self.reader.step_over_list(&mut span)?,
            }
        }
        self.note(value)?;
        self.note(sparse.values)?;
        self.note(sparse.indices)
    }

    fn whole_tensor(&mut self, span: Span) -> Result<(), Fault> {
        let mut tensor = Tensor::default();
        self.tensor(span, &mut tensor)?;
        self.note(tensor)
    }

    fn whole_sparse_tensor(&mut self, span: Span) -> Result<(), Fault> {
        let mut tensor = SparseTensor::default();
        self.sparse_tensor(span, &mut tensor)?;
        self.note(tensor.values)?;
        self.note(tensor.indices)
    }

    fn sparse_tensor(&mut self, mut span: Span, tensor: &mut SparseTensor) -> Result<(), Fault> {
        while let Some(field) = self.reader.field(&mut span, DEPTH)? {
            match field {
                Field::Bytes(1, piece) => self.tensor(piece, &mut tensor.values)?,
                Field::Bytes(2, piece) => self.tensor(piece, &mut tensor.indices)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn tensor(&mut self, mut span: Span, tensor: &mut Tensor) -> Result<(), Fault> {
        while let Some(field) = self.reader.field(&mut span, DEPTH)? {
            match field {
                Field::Bytes(8, name) => tensor.name = Some(name),
                Field::Bytes(13, entry) => {
                    let (key, value) = self.entry(entry)?;
                    // ONNX Runtime takes the last one that is not empty.
                    if self.reader.bytes(&key, 16)? == b"location" && !value.is_empty() {
                        tensor.location = Some(value);
                    }
                }
                Field::Number(14, location) => match enumeration(location) {
                    0 => tensor.external = false,
                    1 => tensor.external = true,
                    // Protobuf passes over a value that it does not know.
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// The key and the value of an entry, both empty where they are missing.
    fn entry(&mut self, mut span: Span) -> Result<(Span, Span), Fault> {
        let (mut key, mut value) = (0..0, 0..0);
        while let Some(field) = self.reader.field(&mut span, DEPTH)? {
            match field {
                Field::Bytes(1, text) => key = text,
                Field::Bytes(2, text) => value = text,
                _ => {}
            }
        }
        Ok((key, value))
    }

    /// Notes the file of a tensor that is complete. One without a location is left to ONNX Runtime, which says so.
    fn note(&mut self, tensor: Tensor) -> Result<(), Fault> {
        let Some(location) = tensor.location.filter(|_| tensor.external) else {
            return Ok(());
        };
        let text = self.reader.bytes(&location, MAX_LOCATION)?;
        match file_path(text) {
            Ok(path) => self.files.insert(path),
            Err(allowed) => {
                let location = shown(text);
                let name = tensor.name.unwrap_or_default();
                let tensor = shown(self.reader.bytes(&name, MAX_KEY)?);
                return Err(Fault::Other(OnnxError::Location {
                    tensor,
                    location,
                    allowed,
                }));
            }
        };
        if self.files.len() > MAX_FILES {
            return Err(Fault::Other(OnnxError::TooManyFiles));
        }
        Ok(())
    }

    fn metadata(&mut self, span: Span) -> Result<(), Fault> {
        let (key, value) = self.entry(span)?;
        // One byte more than is kept tells what is too long.
        let key = self.reader.bytes(&key, MAX_KEY + 1)?.to_vec();
        let value = self.reader.bytes(&value, MAX_VALUE + 1)?;
        self.metadata.note(&key, value);
        Ok(())
    }
}

/// What is kept of the metadata, and how many bytes that is.
#[derive(Default)]
struct Metadata {
    entries: BTreeMap<String, String>,
    bytes: usize,
}

impl Metadata {
    fn note(&mut self, key: &[u8], value: &[u8]) {
        let key = String::from_utf8_lossy(key).into_owned();
        // A value that is replaced does not count, whether or not the new one is kept.
        if let Some(old) = self.entries.remove(&key) {
            self.bytes -= key.len() + old.len();
        }
        let value = String::from_utf8_lossy(value).into_owned();
        let bytes = key.len() + value.len();
        let fits = key.len() <= MAX_KEY && value.len() <= MAX_VALUE;
        if fits && self.bytes + bytes <= MAX_METADATA {
            self.bytes += bytes;
            self.entries.insert(key, value);
        }
    }
}

/// Where the file lies. `./weights.bin` and `data//weights.bin` name what they do to a file system.
fn file_path(location: &[u8]) -> Result<FilePath, String> {
    match std::str::from_utf8(location) {
        Ok(location) if !location.starts_with('/') => {
            let parts: Vec<&str> = location
                .split('/')
                .filter(|part| !matches!(*part, "" | "."))
                .collect();
            FilePath::parse(&parts.join("/"))
        }
        // Absolute, or no text at all.
        _ => FilePath::parse("/"),
    }
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..MAX_KEY).unwrap_or(name)).into_owned()
}
