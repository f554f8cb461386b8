//! New versions: poll, download, load, validation, swap, rollback and eviction.

mod disk_space;
mod environment_faults;
mod eviction;
mod out_of_memory;
mod poll;
mod rejected_content;
mod replacement;
mod rollback;
mod rollback_policy;
mod rollout;
mod soak;
mod source_faults;
mod under_load;
mod validation;
mod version_names;
