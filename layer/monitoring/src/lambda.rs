//! Lambda's own metrics that the dashboard and the alarms use.
//!
//! Source: AWS Lambda developer guide, "Types of metrics for Lambda functions". Each has the dimension `FunctionName`;
//! those of provisioned concurrency also have `Resource`, with the value `function:alias`. No metric of the billed
//! duration exists.

/// Namespace of the metrics.
pub const NAMESPACE: &str = "AWS/Lambda";
/// Dimension with the function and its alias.
pub const RESOURCE: &str = "Resource";

/// Invocations of the function's code, failed ones included and throttled ones excluded.
pub const INVOCATIONS: &str = "Invocations";
/// Invocations that ended in an error of the function or of the platform, such as a timeout.
pub const ERRORS: &str = "Errors";
/// Invocations rejected because no concurrency was available.
pub const THROTTLES: &str = "Throttles";
/// Time that the function's code takes for an event, in milliseconds, without Init.
pub const DURATION: &str = "Duration";
/// Time for which extensions hold an invocation open after the response, in milliseconds.
pub const POST_RUNTIME_EXTENSIONS_DURATION: &str = "PostRuntimeExtensionsDuration";
/// Concurrent invocations; meaningful as a maximum.
pub const CONCURRENT_EXECUTIONS: &str = "ConcurrentExecutions";
/// Invocations on demand because all provisioned concurrency was in use.
pub const SPILLOVER: &str = "ProvisionedConcurrencySpilloverInvocations";
/// Used share of provisioned concurrency, between 0 and 1.
pub const PROVISIONED_UTILIZATION: &str = "ProvisionedConcurrencyUtilization";

/// All metrics of this module.
pub const ALL: [&str; 8] = [
    INVOCATIONS,
    ERRORS,
    THROTTLES,
    DURATION,
    POST_RUNTIME_EXTENSIONS_DURATION,
    CONCURRENT_EXECUTIONS,
    SPILLOVER,
    PROVISIONED_UTILIZATION,
];
