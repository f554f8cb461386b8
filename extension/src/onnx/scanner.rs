//! Scan of a model for every tensor that ONNX Runtime may read, and every node.
//!
//! A tensor can be an initializer or the value of a node's attribute, in the graph, in a subgraph, or in a function. A
//! sparse tensor consists of two tensors. ONNX Runtime does not read training information, so the files that it refers
//! to need not exist.
//!
//! The field numbers are those of `onnx.proto`.

use std::collections::{BTreeMap, BTreeSet};

use super::wire::{Field, MAX_DEPTH, Span, WireReader, deeper, enumeration, malformed};
use super::{Description, Format, OnnxError, ParseError, operators};
use crate::ids::FilePath;

/// Maximum number of external data files. Exporters write one file, or one per tensor; the largest models have
/// thousands of tensors.
pub(super) const MAX_FILES: usize = 4096;

const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 16 * 1024;
const MAX_METADATA: usize = 256 * 1024;

/// Maximum length that is read of a location. Longer than any valid path, so that a truncated path is rejected.
const MAX_LOCATION: usize = 4096;

/// State of a scan.
pub(super) struct ModelScanner<'a, 'f> {
    reader: &'a mut WireReader<'f>,
    files: BTreeSet<FilePath>,
    metadata: MetadataEntries,
    has_fixed_work: bool,
}

/// Fields of a tensor read so far: protobuf allows a message in several pieces.
#[derive(Default)]
struct TensorFields {
    name: Option<Span>,
    external: bool,
    location: Option<Span>,
}

#[derive(Default)]
struct SparseTensorFields {
    values: TensorFields,
    indices: TensorFields,
}

impl<'a, 'f> ModelScanner<'a, 'f> {
    /// Scans the whole file and returns its description.
    pub(super) fn scan(reader: &'a mut WireReader<'f>) -> Result<Description, ParseError> {
        let whole = reader.whole();
        let mut scanner = Self {
            reader,
            files: BTreeSet::new(),
            metadata: MetadataEntries::default(),
            has_fixed_work: true,
        };
        scanner.model(whole)?;
        Ok(Description {
            format: Format::Onnx,
            external: scanner.files,
            metadata: scanner.metadata.entries,
            has_fixed_work: scanner.has_fixed_work,
        })
    }

    fn model(&mut self, mut span: Span) -> Result<(), ParseError> {
        let end = span.end;
        let mut has_graph = false;
        while let Some(field) = self.reader.field(&mut span, MAX_DEPTH)? {
            match field {
                Field::Bytes(7, graph) => {
                    has_graph = true;
                    self.graph(graph, MAX_DEPTH)?;
                }
                Field::Bytes(14, entry) => self.metadata(entry)?,
                Field::Bytes(25, function) => self.function(function, MAX_DEPTH)?,
                _ => {}
            }
        }
        if has_graph {
            Ok(())
        } else {
            Err(malformed(end, "the file ends without a graph"))
        }
    }

    fn graph(&mut self, mut span: Span, depth: u32) -> Result<(), ParseError> {
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

    fn function(&mut self, mut span: Span, depth: u32) -> Result<(), ParseError> {
        let depth = deeper(depth, span.start)?;
        // A function may replace any operator.
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

    fn node(&mut self, mut span: Span, depth: u32) -> Result<(), ParseError> {
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
            let domain = self.reader.bytes(&domain, operators::MAX_NAME_BYTES)?;
            let known = operators::with_fixed_work(domain);
            let operator = self.reader.bytes(&operator, operators::MAX_NAME_BYTES)?;
            self.has_fixed_work = known.iter().any(|name| name.as_bytes() == operator);
        }
        Ok(())
    }

    fn attribute(&mut self, mut span: Span, depth: u32) -> Result<(), ParseError> {
        let depth = deeper(depth, span.start)?;
        let mut value = TensorFields::default();
        let mut sparse = SparseTensorFields::default();
        while let Some(field) = self.reader.field(&mut span, depth)? {
            match field {
                Field::Bytes(5, piece) => self.tensor(piece, &mut value)?,
                Field::Bytes(6 | 11, graph) => self.graph(graph, depth)?,
                Field::Bytes(10, tensor) => self.whole_tensor(tensor)?,
                Field::Bytes(22, piece) => self.sparse_tensor(piece, &mut sparse)?,
                Field::Bytes(23, tensor) => self.whole_sparse_tensor(tensor)?,
                _ => self.reader.skip_list(&mut span)?,
            }
        }
        self.add_file(value)?;
        self.add_file(sparse.values)?;
        self.add_file(sparse.indices)
    }

    fn whole_tensor(&mut self, span: Span) -> Result<(), ParseError> {
        let mut tensor = TensorFields::default();
        self.tensor(span, &mut tensor)?;
        self.add_file(tensor)
    }

    fn whole_sparse_tensor(&mut self, span: Span) -> Result<(), ParseError> {
        let mut tensor = SparseTensorFields::default();
        self.sparse_tensor(span, &mut tensor)?;
        self.add_file(tensor.values)?;
        self.add_file(tensor.indices)
    }

    fn sparse_tensor(
        &mut self,
        mut span: Span,
        tensor: &mut SparseTensorFields,
    ) -> Result<(), ParseError> {
        while let Some(field) = self.reader.field(&mut span, MAX_DEPTH)? {
            match field {
                Field::Bytes(1, piece) => self.tensor(piece, &mut tensor.values)?,
                Field::Bytes(2, piece) => self.tensor(piece, &mut tensor.indices)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn tensor(&mut self, mut span: Span, tensor: &mut TensorFields) -> Result<(), ParseError> {
        while let Some(field) = self.reader.field(&mut span, MAX_DEPTH)? {
            match field {
                Field::Bytes(8, name) => tensor.name = Some(name),
                Field::Bytes(13, entry) => {
                    let (key, value) = self.entry(entry)?;
                    // ONNX Runtime takes the last non-empty location.
                    if self.reader.bytes(&key, 16)? == b"location" && !value.is_empty() {
                        tensor.location = Some(value);
                    }
                }
                Field::Number(14, location) => match enumeration(location) {
                    0 => tensor.external = false,
                    1 => tensor.external = true,
                    // Protobuf ignores unknown values.
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the key and the value of an entry, both empty where missing.
    fn entry(&mut self, mut span: Span) -> Result<(Span, Span), ParseError> {
        let (mut key, mut value) = (0..0, 0..0);
        while let Some(field) = self.reader.field(&mut span, MAX_DEPTH)? {
            match field {
                Field::Bytes(1, text) => key = text,
                Field::Bytes(2, text) => value = text,
                _ => {}
            }
        }
        Ok((key, value))
    }

    /// Records the file of a complete tensor. A tensor without a location is left to ONNX Runtime, which reports it.
    fn add_file(&mut self, tensor: TensorFields) -> Result<(), ParseError> {
        let Some(location) = tensor.location.filter(|_| tensor.external) else {
            return Ok(());
        };
        let text = self.reader.bytes(&location, MAX_LOCATION)?;
        match file_path(text) {
            Ok(path) => self.files.insert(path),
            Err(allowed) => {
                let location = excerpt(text);
                let name = tensor.name.unwrap_or_default();
                let tensor = excerpt(self.reader.bytes(&name, MAX_KEY)?);
                return Err(ParseError::Other(OnnxError::Location {
                    tensor,
                    location,
                    allowed,
                }));
            }
        };
        if self.files.len() > MAX_FILES {
            return Err(ParseError::Other(OnnxError::TooManyFiles));
        }
        Ok(())
    }

    fn metadata(&mut self, span: Span) -> Result<(), ParseError> {
        let (key, value) = self.entry(span)?;
        // One byte more than the maximum shows that a key or value is too long.
        let key = self.reader.bytes(&key, MAX_KEY + 1)?.to_vec();
        let value = self.reader.bytes(&value, MAX_VALUE + 1)?;
        self.metadata.insert(&key, value);
        Ok(())
    }
}

/// Metadata read so far, and its size in bytes.
#[derive(Default)]
struct MetadataEntries {
    entries: BTreeMap<String, String>,
    bytes: usize,
}

impl MetadataEntries {
    fn insert(&mut self, key: &[u8], value: &[u8]) {
        let key = String::from_utf8_lossy(key).into_owned();
        // A replaced value does not count, whether or not the new value fits.
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

/// Parses the path of an external data file. `./weights.bin` and `data//weights.bin` are normalized.
pub(super) fn file_path(location: &[u8]) -> Result<FilePath, String> {
    match std::str::from_utf8(location) {
        Ok(location) if !location.starts_with('/') => {
            let parts: Vec<&str> = location
                .split('/')
                .filter(|part| !matches!(*part, "" | "."))
                .collect();
            FilePath::parse(&parts.join("/"))
        }
        // Absolute, or not UTF-8.
        _ => FilePath::parse("/"),
    }
}

fn excerpt(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..MAX_KEY).unwrap_or(name)).into_owned()
}
