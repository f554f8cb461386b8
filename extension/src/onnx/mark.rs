//! The mark that a model carries once its graph was optimised ahead of time.
//!
//! It stands in the metadata, where any tool can see it. A file of protobuf is a list of fields, so the mark is written
//! behind everything else, and the rest of the file stays as it was, byte for byte.

use super::Description;
use super::encode::field;

/// Says what was done to the graph, such as `onnxruntime 1.28.0, extended`.
const OPTIMISED: &str = "model_sidecar.optimized";
/// Says what is left to do, where something is.
const AT_LOAD: &str = "model_sidecar.at_load";
const LAYOUT: &str = "layout";
/// Says that not even that is to be done which is done to every graph.
const MAP: &str = "map";

/// What ONNX Runtime has to do with a graph when it loads it.
///
/// A graph that was optimised is loaded as it is, which is what makes it start fast. For convolutions there is one
/// step more, which depends on the CPU: weights in blocks of the width of its registers. ResNet-50 then runs an eighth
/// faster, and takes a quarter of a second and 60 MB more to load; so it is not done unless the mark asks for it.
///
/// What is done to every graph is that the weights of matrix products are packed into copies that runs read faster. On
/// 250 MB of them that is nearly all of the load, and half of its memory; a mark can ask to leave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLoad {
    /// Optimise it in full.
    Optimise,
    /// Nothing but packing weights.
    AsItIs,
    /// Nothing at all: weights are used where they are mapped.
    Map,
}

/// What is marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// By what the graph was optimised, and how far.
    pub by: String,
    /// What its load has still to do.
    pub at_load: AtLoad,
}

impl Mark {
    /// The bytes that mark a model when they are appended to its file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = entry(OPTIMISED, &self.by);
        let at_load = match self.at_load {
            AtLoad::Optimise => Some(LAYOUT),
            AtLoad::AsItIs => None,
            AtLoad::Map => Some(MAP),
        };
        bytes.extend(at_load.map(|word| entry(AT_LOAD, word)).unwrap_or_default());
        bytes
    }
}

impl Description {
    /// The mark of a model that was optimised ahead of time.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        let by = self.metadata.get(OPTIMISED)?.clone();
        // A word that is not known here asks for something that this version cannot leave out.
        let at_load = match self.metadata.get(AT_LOAD).map(String::as_str) {
            None => AtLoad::AsItIs,
            Some(MAP) => AtLoad::Map,
            Some(_) => AtLoad::Optimise,
        };
        Some(Mark { by, at_load })
    }

    /// What its load has to do.
    #[must_use]
    pub fn at_load(&self) -> AtLoad {
        self.mark().map_or(AtLoad::Optimise, |mark| mark.at_load)
    }
}

/// An entry of `metadata_props`.
fn entry(key: &str, value: &str) -> Vec<u8> {
    let both = [text(1, key), text(2, value)].concat();
    field(14, &both)
}

fn text(number: u8, text: &str) -> Vec<u8> {
    field(number, text.as_bytes())
}
