//! What a server needs to speak TLS: a certificate for this machine, from an authority that nobody knows.
//!
//! Both are made anew for each server, and the authority's key is gone once it has signed. Clients trust it when they
//! are shown its certificate: `SSL_CERT_FILE` names a file of such for rustls and OpenSSL, `AWS_CA_BUNDLE` for boto3.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{self, ServerConfig, crypto};

/// A domain that no name server knows.
pub const DOMAIN: &str = "lab.test";

/// A server could not be given a certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// It could not be used.
    #[error("cannot use the certificate")]
    Config(#[from] rustls::Error),
}

/// A server's side of TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// The authority's certificate, in PEM.
    pub(crate) authority: String,
}

impl Tls {
    /// For 127.0.0.1 and `localhost`, and for hosts below [`DOMAIN`], which are reached through a proxy alone. HTTP/1.1
    /// alone.
    pub(crate) fn for_this_machine() -> Result<Self, TlsError> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority.distinguished_name.push(DnType::CommonName, "lab");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let mut server = CertificateParams::new(["localhost".to_owned(), format!("*.{DOMAIN}")])?;
        let address = SanType::IpAddress(Ipv4Addr::LOCALHOST.into());
        server.subject_alt_names.push(address);
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &authority)?;

        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            authority: authority.pem(),
        })
    }
}
