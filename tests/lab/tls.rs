//! TLS setup of a server: a certificate for this machine, signed by an authority that nobody trusts
//! by default.
//!
//! Both are created for each server, and the authority's key is discarded after signing. Clients
//! must be given the authority's certificate: `SSL_CERT_FILE` names a file of certificates for
//! rustls and OpenSSL, `AWS_CA_BUNDLE` for boto3.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{self, ServerConfig, crypto};

/// A domain that no name server resolves.
pub const DOMAIN: &str = "lab.test";

/// A server could not be given a certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be created.
    #[error("cannot create a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The certificate could not be used.
    #[error("cannot use the certificate")]
    Config(#[from] rustls::Error),
}

/// Server side of TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// Certificate of the authority, in PEM.
    pub(crate) authority: String,
}

impl Tls {
    /// For 127.0.0.1 and `localhost`, and for hosts below [`DOMAIN`], which are reached through a
    /// proxy only. HTTP/1.1 only.
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
