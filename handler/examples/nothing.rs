//! A handler that does nothing, on the same runtime: the baseline of `make bench-inference`.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::value::RawValue;

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let nothing = service_fn(|_: LambdaEvent<Box<RawValue>>| async {
        Ok::<_, Error>(serde_json::json!({ "prediction": [0] }))
    });
    runtime.block_on(lambda_runtime::run(nothing))
}
