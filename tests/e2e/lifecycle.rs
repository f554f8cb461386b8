//! Init, invocations, the sidecar as the runtime, freeze and thaw, resets, shutdown, and the configuration.

mod attached;
mod cold_start;
mod configuration_errors;
mod freeze;
mod freeze_soak;
mod idle_cost;
mod init_timeout;
mod interrupted_loads;
mod managed_instances;
mod reset;
mod short_invocations;
mod sigkill_in_init;
mod sigterm;
mod snapshot;
