//! `lab serve`: runs the function and its layer on this machine until a signal or `lab shutdown`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use lab::cloudwatch::CloudWatch;
use lab::lambda::{Builder, Function};
use lab::preview::{Preview, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::ServeArguments;
use crate::server::ControlServer;
use crate::{follow, links};

/// Variable with the address of `CloudWatch`.
const ENDPOINT: &str = "AWS_ENDPOINT_URL_CLOUDWATCH";

pub(crate) async fn run(mut arguments: ServeArguments) -> anyhow::Result<()> {
    let address = (Ipv4Addr::LOCALHOST, arguments.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on port {}", arguments.port))?;
    let port = listener.local_addr()?.port();
    // Handled from here on, so that a signal during the start is not lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let (bandwidth, latency) = (arguments.bandwidth, arguments.latency);
    let links = links::lay(&mut arguments.variables, bandwidth, latency).await?;
    let cloudwatch = if arguments.dashboard {
        Some(Arc::new(collector(&mut arguments.variables).await?))
    } else {
        None
    };
    let no_layer = tempfile::tempdir().context("cannot create an empty folder for the layer")?;
    let function = Arc::new(builder(&arguments, no_layer.path()).start().await?);
    let printer = tokio::spawn({
        let log = function.log().clone();
        async move { follow::print(&log).await }
    });
    eprintln!("lab: listening on 127.0.0.1:{port}; press Ctrl-C to stop. To invoke the function:");
    eprintln!("  curl -d '{{}}' http://127.0.0.1:{port}/2015-03-31/functions/function/invocations");

    let preview = match &cloudwatch {
        Some(cloudwatch) => {
            eprintln!("lab: the dashboard is at http://127.0.0.1:{port}/");
            Some(preview(&arguments, &function, cloudwatch)?)
        }
        None => None,
    };
    let server = ControlServer::new(Arc::clone(&function), preview, cloudwatch);
    tokio::select! {
        () = server.serve(listener) => {}
        _ = interrupt.recv() => eprintln!("lab: interrupted, shutting down the environments"),
        _ = terminate.recv() => eprintln!("lab: SIGTERM received, shutting down the environments"),
    }
    function.shutdown().await;
    printer.await?;
    drop(links);
    Ok(())
}

/// Starts a `CloudWatch`, and directs the function's metrics to it.
async fn collector(variables: &mut Vec<(String, String)>) -> anyhow::Result<CloudWatch> {
    anyhow::ensure!(
        variables.iter().all(|(name, _)| name != ENDPOINT),
        "cannot use --dashboard with --env {ENDPOINT}: it collects the metrics itself; leave one of them out"
    );
    let cloudwatch = CloudWatch::start().await?;
    for (name, value) in cloudwatch.env() {
        let known = variables.iter().find(|(given, _)| *given == name);
        match known {
            None => variables.push((name, value)),
            Some((_, given)) => anyhow::ensure!(
                *given == value,
                "cannot use --dashboard with --env {name}={given}: the lab's CloudWatch accepts {value} only; \
                 leave the variable out, or use the lab's value"
            ),
        }
    }
    Ok(cloudwatch)
}

fn preview(
    arguments: &ServeArguments,
    function: &Arc<Function>,
    cloudwatch: &Arc<CloudWatch>,
) -> anyhow::Result<Arc<Preview>> {
    let settings = Settings {
        function_name: function.name().to_owned(),
        memory_mb: arguments.memory,
    };
    let functions = vec![Arc::clone(function)];
    Ok(Arc::new(Preview::new(
        &settings,
        functions,
        Arc::clone(cloudwatch),
    )?))
}

fn builder(arguments: &ServeArguments, no_layer: &std::path::Path) -> Builder {
    let layer = arguments.layer.as_deref().unwrap_or(no_layer);
    let mut builder = Function::of(layer, &arguments.function)
        .handler(&arguments.handler)
        .memory_mb(arguments.memory)
        .timeout(arguments.timeout)
        .init_limit(arguments.init_limit)
        .envs(arguments.variables.clone())
        .clock(arguments.clock.into())
        .max_environments(usize::try_from(arguments.concurrency).unwrap_or(usize::MAX))
        .idle_limit(arguments.idle_limit)
        .limit_resources(true);
    if let Some(concurrency) = arguments.managed {
        builder = builder.managed_instances(concurrency);
    }
    if arguments.snap_start {
        builder = builder.snap_start();
    }
    if let Some(megabytes) = arguments.tmp_mb {
        builder = builder.tmp_mb(megabytes);
    }
    builder
}
