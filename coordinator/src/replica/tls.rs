//! Mutual TLS 1.3 between replicas: a peer is who its certificate says, signed by the cluster's own authority.

use std::path::Path;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use super::config::{KeyFiles, peer_name};
use super::pem;
use crate::clock::WallClock;

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or is not PEM.
    #[error(
        "cannot use the key file {file}: {why}; put a whole copy of it there, or another member with new keys in the place of this one (brolga member replace)"
    )]
    File {
        /// Which.
        file: String,
        /// Why.
        why: String,
    },
    /// rustls refused the keys.
    #[error(
        "the replica's keys do not work: {0}; put whole copies of them there, or another member with new keys in the place of this one (brolga member replace)"
    )]
    Keys(String),
}

/// Both roles' settings.
#[derive(Clone, Debug)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the keys.
    pub fn load(files: &KeyFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&files.authority)? {
            roots.add(certificate).map_err(|error| TlsError::Keys(error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&files.certificate)?;
        let key = pem::read(&files.key).map_err(|why| file_error(&files.key, &why))?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| file_error(&files.key, &error.to_string()))?;
        let keys = |error: rustls::Error| TlsError::Keys(error.to_string());
        let client = ClientConfig::builder_with_details(provider.clone(), Arc::new(WallClock))
            .with_protocol_versions(&[&TLS13])
            .map_err(keys)?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(keys)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| TlsError::Keys(error.to_string()))?;
        let mut server = ServerConfig::builder_with_details(provider, Arc::new(WallClock))
            .with_protocol_versions(&[&TLS13])
            .map_err(keys)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(keys)?;
        // Resumption saves nothing between long-lived peers.
        server.send_tls13_tickets = 0;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    /// The connecting side; the other must prove to be replica `id`.
    pub fn connect(&self, id: u8) -> Result<Connection, rustls::Error> {
        let name =
            ServerName::try_from(peer_name(id)).map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(ClientConnection::new(self.client.clone(), name)?.into())
    }

    /// The accepting side; see [`peer_of`].
    pub fn accept(&self) -> Result<Connection, rustls::Error> {
        Ok(ServerConnection::new(self.server.clone())?.into())
    }
}

/// Says why these are not the keys of replica `id`: its certificate is signed by the authority, has its name, and fits the
/// private key.
pub fn check(files: &KeyFiles, id: u8) -> Result<(), String> {
    Tls::load(files).map_err(|error| match error {
        TlsError::File { file, why } => format!("{file}: {why}"),
        TlsError::Keys(why) => why,
    })?;
    let text = |error: TlsError| error.to_string();
    let (authority, chain) =
        (certificates(&files.authority).map_err(text)?, certificates(&files.certificate).map_err(text)?);
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authority);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
    let verifier = verifier.build().map_err(|error| error.to_string())?;
    let now = UnixTime::now();
    verifier
        .verify_client_cert(&chain[0], &[], now)
        .map_err(|_| "the authority did not sign the certificate".to_owned())?;
    let name = ServerName::try_from(peer_name(id)).map_err(|error| error.to_string())?;
    let parsed = ParsedCertificate::try_from(&chain[0]).map_err(|error| error.to_string())?;
    verify_server_name(&parsed, &name).map_err(|_| "the certificate is another replica's".to_owned())
}

/// Which of `candidates` the other side has proved to be.
pub fn peer_of(connection: &Connection, candidates: impl Iterator<Item = u8>) -> Option<u8> {
    let certificate = connection.peer_certificates()?.first()?;
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let mut candidates = candidates;
    candidates.find(|&id| {
        ServerName::try_from(peer_name(id)).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = pem::read(path).map_err(|why| file_error(path, &why))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| file_error(path, &error.to_string()))?;
    if all.is_empty() { Err(file_error(path, "it has no certificate")) } else { Ok(all) }
}

fn file_error(path: &Path, why: &str) -> TlsError {
    TlsError::File { file: path.display().to_string(), why: why.to_owned() }
}
