//! Reading of initializers, inside the model or in external data files.

use std::fs::File;
use std::path::Path;

use super::super::scanner::file_path;
use super::super::weight::MAX_NAME;
use super::super::wire::{Field, MAX_DEPTH, Span, WireReader, enumeration, text};
use super::super::{OnnxError, ParseError};

/// Maximum number of dimensions of a weight that is stored in a smaller type.
const MAX_DIMENSIONS: usize = 8;

/// Number of FP32 in `TensorProto.DataType`.
const FLOAT: i32 = 1;

/// An initializer, or the tensor of a `Constant` node.
pub(super) struct Initializer {
    /// The graph's field that holds it.
    pub(super) field: Span,
    /// The tensor.
    pub(super) tensor: Span,
    pub(super) name: String,
    pub(super) is_constant_node: bool,
    /// Number of the element type.
    datatype: i32,
    pub(super) shape: Vec<u64>,
    data: Data,
}

/// Position of a tensor's elements.
enum Data {
    /// As bytes, or as packed FP32 numbers, which are the same.
    Bytes(Span),
    External {
        location: String,
        offset: u64,
        length: Option<u64>,
    },
    /// In another form, such as one field per element.
    Other,
}

impl Initializer {
    pub(super) fn read(
        reader: &mut WireReader<'_>,
        field: Span,
        tensor: Span,
    ) -> Result<Self, ParseError> {
        let mut initializer = Self {
            field,
            tensor: tensor.clone(),
            name: String::new(),
            is_constant_node: false,
            datatype: 0,
            shape: Vec::new(),
            data: Data::Other,
        };
        let (mut parts, mut is_external, mut is_unusual) = (0, false, false);
        let mut place = External::default();
        let mut left = tensor;
        while let Some(next) = reader.field(&mut left, MAX_DEPTH)? {
            match next {
                Field::Number(1, size) => initializer.shape.push(size),
                Field::Bytes(1, packed) => {
                    let sizes = reader.numbers(packed)?.into_iter();
                    initializer.shape.extend(sizes.map(i64::cast_unsigned));
                }
                Field::Number(2, datatype) => initializer.datatype = enumeration(datatype),
                Field::Bytes(8, name) => initializer.name = text(reader, &name)?,
                Field::Bytes(4 | 9, data) => {
                    parts += 1;
                    initializer.data = Data::Bytes(data);
                }
                Field::Bytes(13, entry) => place.read(reader, entry)?,
                Field::Number(14, location) => is_external = enumeration(location) == 1,
                Field::Bytes(12, _) => {}
                _ => is_unusual = true,
            }
        }
        if is_external {
            initializer.data = Data::External {
                location: place.location,
                offset: place.offset,
                length: place.length,
            };
        } else if parts != 1 || is_unusual {
            initializer.data = Data::Other;
        }
        Ok(initializer)
    }

    pub(super) fn is_external(&self) -> bool {
        matches!(self.data, Data::External { .. })
    }

    pub(super) fn is_fp32(&self) -> bool {
        self.datatype == FLOAT
    }

    /// Datatype in words, if it is that of a weight.
    pub(super) fn other_type(&self) -> Option<&'static str> {
        match self.datatype {
            2 => Some("UINT8"),
            3 => Some("INT8"),
            10 => Some("FP16"),
            11 => Some("FP64"),
            16 => Some("BF16"),
            _ => None,
        }
    }

    /// Returns the number of elements, if the shape is valid.
    pub(super) fn count(&self) -> Option<u64> {
        let is_valid = self.shape.iter().all(|size| i64::try_from(*size).is_ok());
        let mut sizes = self.shape.iter().copied();
        let count = sizes.try_fold(1, u64::checked_mul);
        count.filter(|_| is_valid)
    }

    /// Returns the reason why the tensor cannot be stored in another form, whatever its elements.
    pub(super) fn refusal(&self) -> Option<String> {
        if self.name.is_empty() || self.name.len() > MAX_NAME || self.name.contains('\0') {
            return Some("its name is empty, longer than 256 bytes, or holds NUL".to_owned());
        }
        if self.shape.len() > MAX_DIMENSIONS {
            return Some(format!("it has more than {MAX_DIMENSIONS} dimensions"));
        }
        if let Data::Other = self.data {
            return Some("its elements are in an unusual form".to_owned());
        }
        None
    }

    /// Reads the elements of an FP32 tensor; `Err` in words if they are not as many as its shape gives.
    pub(super) fn floats(
        &self,
        reader: &mut WireReader<'_>,
        folder: &Path,
    ) -> Result<Result<Vec<f32>, String>, ParseError> {
        let bytes = self.bytes(reader, folder)?;
        let needed = self.count().and_then(|count| count.checked_mul(4));
        if needed != Some(bytes.len() as u64) {
            return Ok(Err(format!(
                "it has {} bytes of data, and its shape {:?} needs another number",
                bytes.len(),
                self.shape
            )));
        }
        let floats = bytes.as_chunks().0.iter();
        Ok(Ok(floats.map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }

    /// Reads the bytes of the elements, which must not be in another form.
    pub(super) fn bytes(
        &self,
        reader: &mut WireReader<'_>,
        folder: &Path,
    ) -> Result<Vec<u8>, ParseError> {
        match &self.data {
            Data::Bytes(span) => Ok(reader.copy(span)?),
            Data::External {
                location,
                offset,
                length,
            } => {
                let path =
                    file_path(location.as_bytes()).map_err(|allowed| OnnxError::Location {
                        tensor: self.name.clone(),
                        location: location.clone(),
                        allowed,
                    })?;
                let file = File::open(folder.join(path.as_str())).map_err(OnnxError::Read)?;
                let mut reader = WireReader::new(&file)?;
                let whole = reader.whole();
                let end = length.map_or(Some(whole.end), |length| offset.checked_add(length));
                match end {
                    Some(end) if end <= whole.end && *offset <= end => {
                        Ok(reader.copy(&(*offset..end))?)
                    }
                    _ => Err(OnnxError::Read(std::io::Error::new(
                        std::io::ErrorKind::UnexpectedEof,
                        format!(
                            "the data of {:?} lie beyond the end of {:?}",
                            self.name,
                            path.as_str()
                        ),
                    ))
                    .into()),
                }
            }
            Data::Other => Ok(Vec::new()),
        }
    }
}

/// Entries of `external_data`.
#[derive(Default)]
struct External {
    location: String,
    offset: u64,
    length: Option<u64>,
}

impl External {
    fn read(&mut self, reader: &mut WireReader<'_>, mut entry: Span) -> Result<(), ParseError> {
        let (mut key, mut value) = (String::new(), String::new());
        while let Some(next) = reader.field(&mut entry, MAX_DEPTH)? {
            match next {
                Field::Bytes(1, text_of) => key = text(reader, &text_of)?,
                Field::Bytes(2, text_of) => value = text(reader, &text_of)?,
                _ => {}
            }
        }
        let number = |value: &str| {
            value.parse::<u64>().map_err(|_| {
                OnnxError::Read(std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    format!("{key} of external data is {value:?}, which is not a number"),
                ))
            })
        };
        match key.as_str() {
            // ONNX Runtime takes the last non-empty location.
            "location" if !value.is_empty() => self.location = value,
            "offset" => self.offset = number(&value)?,
            "length" => self.length = Some(number(&value)?),
            _ => {}
        }
        Ok(())
    }
}
