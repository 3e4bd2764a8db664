//! TLS: whose certificate counts, and that https stays https. The certificates are made by `openssl` for each test.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use iotwasm_fetch::{Client, Error, Options};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Writes `cert.pem` for `localhost` and its `key.pem`.
fn make_certificate(folder: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Serves `answer` to every request over TLS; gives the URL.
fn serve(folder: &Path, answer: String) -> String {
    let cert = CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![cert], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/repo", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            // A client that does not like the certificate is gone by now.
            let _ = stream.write_all(answer.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    url
}

fn client(url: String, ca: &Path) -> Client {
    let options = Options { ca_file: ca.join("cert.pem"), proxy_from_environment: false, ..Options::default() };
    Client::new(&[url], &options).unwrap()
}

#[test]
fn configured_certificate_is_accepted_and_a_strange_one_refused() {
    let [ours, strange] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    make_certificate(ours.path());
    make_certificate(strange.path());
    let url = serve(ours.path(), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello".into());
    assert_eq!(client(url.clone(), ours.path()).get("f", 10).unwrap(), b"hello");
    assert!(matches!(client(url, strange.path()).get("f", 10), Err(Error::Transport { .. })));
}

#[test]
fn redirect_from_https_to_http_is_refused() {
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = connections.clone();
    std::thread::spawn(move || {
        for stream in plain.incoming() {
            seen.fetch_add(1, Ordering::SeqCst);
            let _ = stream.unwrap().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    let folder = tempfile::tempdir().unwrap();
    make_certificate(folder.path());
    let head = format!("HTTP/1.1 302 Found\r\nLocation: http://{address}/f\r\nContent-Length: 0\r\nConnection: close");
    let url = serve(folder.path(), format!("{head}\r\n\r\n"));
    assert!(client(url, folder.path()).get("f", 10).is_err());
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}
