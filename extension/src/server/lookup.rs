//! Looks up the model and the version that a path names.

use super::context::ServerContext;
use super::error::ApiError;
use super::route::ModelSelector;
use crate::ids::ModelName;
use crate::models::LoadedModel;

/// Returns the model of this name.
pub(super) fn find_model<'a>(
    given: &str,
    context: &'a ServerContext,
) -> Result<&'a ModelName, ApiError> {
    context
        .models
        .name(given)
        .ok_or_else(|| ApiError::UnknownModel {
            given: given.to_owned(),
            known: known_models(context),
        })
}

/// Returns the model that a path without a model means: the only one.
pub(super) fn only_model(context: &ServerContext) -> Result<&ModelName, ApiError> {
    context
        .models
        .only()
        .ok_or_else(|| ApiError::ModelNotNamed {
            known: known_models(context),
        })
}

/// Returns the names of all models, for errors.
pub(super) fn known_models(context: &ServerContext) -> String {
    context
        .models
        .names()
        .map(ModelName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Checks that the active version has the name or the label of the target, if the target has any.
pub(super) fn check_target(target: &ModelSelector, loaded: &LoadedModel) -> Result<(), ApiError> {
    let is_active = |version: &str| version == loaded.version.as_str();
    if let Some(given) = &target.version
        && !is_active(given)
    {
        return Err(ApiError::VersionNotActive {
            model: target.model.clone(),
            given: given.clone(),
            active: loaded.version.to_string(),
        });
    }
    let Some(given) = &target.label else {
        return Ok(());
    };
    let points_to = loaded.labels.version(given);
    if points_to.is_some_and(|version| is_active(version.as_str())) {
        return Ok(());
    }
    Err(ApiError::LabelNotActive {
        model: target.model.clone(),
        given: given.clone(),
        points_to: match points_to {
            Some(version) => format!("names version {:?}", version.as_str()),
            None => "names no version".to_owned(),
        },
        active: loaded.version.to_string(),
    })
}
