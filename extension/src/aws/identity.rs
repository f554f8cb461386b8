//! Cache of credentials, which a thaw empties.
//!
//! The SDK keeps credentials until they expire. After a restore from a snapshot, they belong to the environment in
//! which the snapshot was made. Without a hook, a restore looks like a freeze, so that each thaw begins a new cache.
//! With `SnapStart`, reading credentials again takes one request to an endpoint within the environment.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_config::identity::IdentityCache;
use aws_smithy_runtime_api::client::identity::{
    IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

use crate::clock::{Thaws, Timestamp};

/// Cache of the SDK, replaced after each thaw.
pub(super) struct ThawAwareCache {
    thaws: Thaws,
    current: Mutex<CacheSinceThaw>,
}

struct CacheSinceThaw {
    /// Last thaw before the cache was created.
    thaw: Option<Timestamp>,
    cache: SharedIdentityCache,
}

impl CacheSinceThaw {
    fn new(thaw: Option<Timestamp>) -> Self {
        Self {
            thaw,
            cache: IdentityCache::lazy().build(),
        }
    }
}

impl ThawAwareCache {
    pub(super) fn new(thaws: Thaws) -> Self {
        let current = Mutex::new(CacheSinceThaw::new(thaws.last()));
        Self { thaws, current }
    }

    /// Returns the current cache, or a new one after a thaw.
    fn current(&self) -> SharedIdentityCache {
        let thaw = self.thaws.last();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.thaw != thaw {
            *current = CacheSinceThaw::new(thaw);
        }
        current.cache.clone()
    }
}

impl fmt::Debug for ThawAwareCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThawAwareCache").finish_non_exhaustive()
    }
}

impl ResolveCachedIdentity for ThawAwareCache {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        config: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let cache = self.current();
        IdentityFuture::new(async move {
            let identity = cache.resolve_cached_identity(resolver, components, config);
            identity.await
        })
    }
}
