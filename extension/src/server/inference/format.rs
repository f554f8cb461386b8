//! The three formats of inference requests and of their responses.

use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::models::LoadedModel;
use crate::protocol::v2::{self, Encoded};
use crate::protocol::{BadRequest, DecodeError, Decoded, predict, tfserving};
use crate::request_memory::Charge;
use crate::server::media_type;
use crate::server::response::serving_version;
use crate::server::route::ModelSelector;
use crate::tensor::{Signature, Value};

/// Estimated bytes of JSON for each byte of a tensor: a number of single precision has about ten digits and a comma.
const TEXT_PER_BYTE: usize = 3;

/// Format of a request, and the version that its path names.
pub(in crate::server) enum RequestFormat {
    /// Open Inference Protocol.
    OpenInference(ModelSelector),
    /// TensorFlow Serving's REST API.
    TensorFlow(ModelSelector),
    /// `/predict`.
    Plain,
}

/// Format of a response, with the parameters that come from its request.
pub(super) enum InferenceResponseFormat {
    OpenInference(v2::ResponseFormat),
    TensorFlow(tfserving::Layout),
    Plain,
}

impl RequestFormat {
    /// Returns the inputs for a run of this version, and the format of the response.
    pub(super) fn decode(
        &self,
        loaded: &LoadedModel,
        body: &Bytes,
        header_length: Option<usize>,
        media_type: Option<&HeaderValue>,
        charge: &mut Charge,
    ) -> Result<(Decoded, InferenceResponseFormat), DecodeError> {
        let decoded = self.decode_inputs(body, header_length, loaded.signature(), charge);
        let (decoded, format) = decoded.map_err(|error| match (error, header_length) {
            (DecodeError::Invalid(error), None) => {
                DecodeError::Invalid(media_type::explained(error, media_type, body))
            }
            (error, _) => error,
        })?;
        self.check_dimensions(&decoded, loaded)?;
        Ok((decoded, format))
    }

    fn decode_inputs(
        &self,
        body: &Bytes,
        header_length: Option<usize>,
        signature: &Signature,
        charge: &mut Charge,
    ) -> Result<(Decoded, InferenceResponseFormat), DecodeError> {
        match self {
            RequestFormat::OpenInference(_) => v2::decode(body, header_length, signature, charge)
                .map(|(decoded, reply)| (decoded, InferenceResponseFormat::OpenInference(reply))),
            RequestFormat::TensorFlow(_) => tfserving::decode(body, signature, charge)
                .map(|(decoded, layout)| (decoded, InferenceResponseFormat::TensorFlow(layout))),
            RequestFormat::Plain => predict::decode(body, signature, charge)
                .map(|decoded| (decoded, InferenceResponseFormat::Plain)),
        }
    }

    /// Checks that inputs which share a dimension agree in its size. In the Open Inference Protocol, a size of 1 is
    /// meant to broadcast; in the other formats, a single row among several is a mistake.
    fn check_dimensions(&self, decoded: &Decoded, loaded: &LoadedModel) -> Result<(), BadRequest> {
        let may_broadcast = matches!(self, RequestFormat::OpenInference(_));
        loaded
            .shared_dimensions()
            .check(&decoded.inputs, may_broadcast)
            .map_err(|mismatch| BadRequest(mismatch.to_string()))
    }

    /// Returns the version that the path names.
    pub(super) fn target(&self) -> Option<&ModelSelector> {
        match self {
            RequestFormat::OpenInference(target) | RequestFormat::TensorFlow(target) => {
                Some(target)
            }
            RequestFormat::Plain => None,
        }
    }
}

impl InferenceResponseFormat {
    /// Returns the memory that outputs take while they are encoded, in bytes. The length of numbers as text is an
    /// estimate.
    pub(super) fn encoded_size(&self, outputs: &[(String, Value)]) -> usize {
        let bytes = outputs.iter().map(|(name, value)| {
            let is_text = match self {
                InferenceResponseFormat::OpenInference(reply) => !reply.is_binary(name),
                InferenceResponseFormat::TensorFlow(_) | InferenceResponseFormat::Plain => true,
            };
            let text = if is_text { TEXT_PER_BYTE } else { 0 };
            value.memory().saturating_mul(1 + text)
        });
        bytes.fold(0, usize::saturating_add)
    }

    /// Encodes the outputs of this version.
    pub(super) fn encode(
        &self,
        loaded: &LoadedModel,
        outputs: Vec<(String, Value)>,
    ) -> Result<Encoded, BadRequest> {
        match self {
            InferenceResponseFormat::OpenInference(reply) => {
                Ok(reply.encode(serving_version(loaded), outputs))
            }
            InferenceResponseFormat::TensorFlow(layout) => {
                tfserving::encode(*layout, &outputs).map(Encoded::json)
            }
            InferenceResponseFormat::Plain => Ok(Encoded::json(predict::encode(
                serving_version(loaded),
                &outputs,
            ))),
        }
    }
}
