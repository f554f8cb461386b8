//! `lab serve`: runs the function and its layer on this machine until a signal or `lab shutdown`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use lab::lambda::{Builder, Function};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::ServeArguments;
use crate::server::ControlServer;
use crate::{follow, links};

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
    let no_layer = tempfile::tempdir().context("cannot create an empty folder for the layer")?;
    let function = Arc::new(builder(&arguments, no_layer.path()).start().await?);
    let printer = tokio::spawn({
        let log = function.log().clone();
        async move { follow::print(&log).await }
    });
    eprintln!("lab: listening on 127.0.0.1:{port}; press Ctrl-C to stop. To invoke the function:");
    eprintln!("  curl -d '{{}}' http://127.0.0.1:{port}/2015-03-31/functions/function/invocations");

    let server = ControlServer::new(Arc::clone(&function));
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
    if let Some(megabytes) = arguments.tmp_mb {
        builder = builder.tmp_mb(megabytes);
    }
    builder
}
