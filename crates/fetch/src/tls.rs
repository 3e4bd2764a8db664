//! Certificates: only those of one file, read once, and only if a URL needs them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::Error;

/// TLS by rustls with ring, trusting the certificates in `ca_file`.
pub(crate) fn config(ca_file: &Path) -> Result<TlsConfig, Error> {
    let fail = |source| Error::Ca { path: ca_file.into(), source };
    let pem = std::fs::read(ca_file).map_err(fail)?;
    let items = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(cert)) => Some(cert),
        _ => None,
    });
    let certs: Vec<_> = items.collect();
    if certs.is_empty() {
        return Err(fail(io::Error::new(io::ErrorKind::InvalidData, "no certificate in it")));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certs))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}
