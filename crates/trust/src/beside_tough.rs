//! Our keys, ids, canonical JSON and verdicts beside `tough`'s, on the same inputs. RSA and ECDSA keys are made by `openssl`.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key as ToughKey;
use tough::schema::{Role, RoleKeys, RoleType, Root, Signature, Signed};

use crate::key::{Key, canonical};
use crate::repo;
use crate::verify::{Envelope, Signers};

/// Any JSON in the place of one of `tough`'s roles.
struct Raw<'a>(&'a Value);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Role for Raw<'_> {
    const TYPE: RoleType = RoleType::Targets;

    fn expires(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn version(&self) -> NonZeroU64 {
        NonZeroU64::MIN
    }

    fn filename(&self, _consistent_snapshot: bool) -> String {
        String::new()
    }
}

/// A key's id, by `tough`; `None` if it cannot read the key.
fn tough_id(key: &Value) -> Option<Decoded<Hex>> {
    ToughKey::deserialize(key).ok()?.key_id().ok()
}

/// Whether the key made the signature over the canonical form of `signed`, by `tough`.
fn tough_verdict(key: &Value, signature: &[u8], signed: &Value) -> bool {
    let (Ok(key), Some(id)) = (ToughKey::deserialize(key), tough_id(key)) else { return false };
    let role = RoleKeys { keyids: vec![id.clone()], threshold: NonZeroU64::MIN, _extra: HashMap::new() };
    let root = Root {
        spec_version: String::new(),
        consistent_snapshot: true,
        version: NonZeroU64::MIN,
        expires: jiff::Timestamp::UNIX_EPOCH,
        keys: HashMap::from([(id.clone(), key)]),
        roles: HashMap::from([(RoleType::Targets, role)]),
        _extra: HashMap::new(),
    };
    let signatures = vec![Signature { keyid: id, sig: signature.to_vec().into() }];
    root.verify_role(&Signed { signed: Raw(signed), signatures }).is_ok()
}

/// The same, by us, on the way that metadata takes.
fn our_verdict(key: &Value, signature: &[u8], signed: &Value) -> bool {
    let list = serde_json::Map::from_iter([("k".to_owned(), key.clone())]);
    let file = json!({"signed": signed, "signatures": [{"keyid": "k", "sig": hex::encode(signature)}]});
    let file = Envelope::parse(file.to_string().as_bytes()).unwrap();
    Signers::pick(&list, &["k".to_owned()], 1).unwrap().check(&file).is_ok()
}

/// The verdict on which both agree.
fn verdict(key: &Value, signature: &[u8], signed: &Value) -> bool {
    let (ours, theirs) = (our_verdict(key, signature, signed), tough_verdict(key, signature, signed));
    assert_eq!(ours, theirs, "key {key}, signature {}", hex::encode(signature));
    ours
}

/// Whether both read the key; if they do, its id is the same.
fn is_read(key: &Value) -> bool {
    let (ours, theirs) = (Key::read(key), tough_id(key));
    assert_eq!(ours.as_ref().map(|key| key.id.as_slice()), theirs.as_deref(), "key {key}");
    ours.is_some()
}

fn openssl(folder: &Path, args: &str) {
    let done = Command::new("openssl").args(args.split(' ')).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A key by `openssl` and what it signs.
struct Signer {
    folder: tempfile::TempDir,
    key: Value,
    options: &'static str,
}

impl Signer {
    fn new(keytype: &str, scheme: &str, generate: &str, options: &'static str) -> Signer {
        let folder = tempfile::tempdir().unwrap();
        openssl(folder.path(), &format!("genpkey -out key.pem {generate}"));
        openssl(folder.path(), "pkey -in key.pem -pubout -out public.pem");
        let public = std::fs::read_to_string(folder.path().join("public.pem")).unwrap();
        let key = json!({"keytype": keytype, "scheme": scheme, "keyval": {"public": public}});
        Signer { folder, key, options }
    }

    fn rsa(bits: &str, options: &'static str) -> Signer {
        let generate = format!("-algorithm RSA -pkeyopt rsa_keygen_bits:{bits}");
        Signer::new("rsa", "rsassa-pss-sha256", &generate, options)
    }

    fn ecdsa(generate: &str) -> Signer {
        Signer::new("ecdsa", "ecdsa-sha2-nistp256", &format!("-algorithm EC {generate}"), "-sha256")
    }

    fn ed25519() -> Signer {
        let mut signer = Signer::new("ed25519", "ed25519", "-algorithm ed25519", "");
        let der = signer.der();
        signer.key["keyval"]["public"] = hex::encode(&der[der.len() - 32..]).into();
        signer
    }

    /// The public key as SubjectPublicKeyInfo.
    fn der(&self) -> Vec<u8> {
        openssl(self.folder.path(), "pkey -in key.pem -pubout -outform DER -out public.der");
        std::fs::read(self.folder.path().join("public.der")).unwrap()
    }

    fn sign(&self, signed: &Value) -> Vec<u8> {
        let folder = self.folder.path();
        std::fs::write(folder.join("message"), canonical(signed).unwrap()).unwrap();
        if self.options.is_empty() {
            openssl(folder, "pkeyutl -sign -inkey key.pem -rawin -in message -out signature");
        } else {
            openssl(folder, &format!("dgst {} -sign key.pem -out signature message", self.options));
        }
        std::fs::read(folder.join("signature")).unwrap()
    }

    /// The key with another text in the place of its public half.
    fn with_public(&self, public: impl Into<Value>) -> Value {
        let mut key = self.key.clone();
        key["keyval"]["public"] = public.into();
        key
    }
}

const PSS: &str = "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest";
const P256: &str = "-pkeyopt ec_paramgen_curve:P-256";

fn signed() -> Value {
    json!({"_type": "targets", "note": "\u{fc} \\ \" \n\u{7f}", "list": [1, -1, null, true, {}], "x": {"b": 1, "a": 2}})
}

/// What holds for a good key of any type.
fn check_signer(signer: &Signer) {
    let (key, signed) = (&signer.key, signed());
    assert!(is_read(key));
    let signature = signer.sign(&signed);
    assert!(verdict(key, &signature, &signed));
    assert!(!verdict(key, &signature, &json!({})));
    assert!(!verdict(key, b"", &signed));
    for at in [0, signature.len() / 2, signature.len() - 1] {
        for flip in [1, 0x80] {
            let mut other = signature.clone();
            other[at] ^= flip;
            assert!(!verdict(key, &other, &signed));
        }
    }
    for other in [&signature[..signature.len() - 1], &[&signature[..], &[0]].concat()] {
        assert!(!verdict(key, other, &signed));
    }
    // What we do not know of a key is part of its id and changes no verdict.
    let mut noted = key.clone();
    noted["x-note"] = json!({"b": [1, null], "a": "\u{fc}"});
    noted["keyval"]["private"] = "".into();
    noted["keyid_hash_algorithms"] = json!(["sha256", "sha512"]);
    assert!(is_read(&noted) && verdict(&noted, &signature, &signed));
    // No canonical form, no id.
    noted["x-note"] = 1.5.into();
    assert!(!is_read(&noted) && !verdict(&noted, &signature, &signed));
    for (field, value) in [
        ("keytype", json!("dilithium")),
        ("keytype", json!("ED25519")),
        ("keytype", json!("")),
        ("scheme", json!("ecdsa-sha2-nistp384")),
        ("scheme", json!("rsa-pkcs1v15-sha256")),
        ("scheme", json!(["ed25519"])),
        ("scheme", json!(null)),
        ("keyval", json!({})),
        ("keyval", json!({"public": ""})),
        ("keyval", json!({"public": 1})),
        ("keyval", json!({"public": "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"})),
        ("keyval", json!("00")),
    ] {
        let mut other = key.clone();
        other[field] = value;
        is_read(&other);
        assert!(!verdict(&other, &signature, &signed));
        other.as_object_mut().unwrap().remove(field);
        assert!(!is_read(&other));
    }
    // A key of one type called one of another.
    for keytype in ["rsa", "ed25519", "ecdsa", "ecdsa-sha2-nistp256"] {
        for scheme in ["rsassa-pss-sha256", "ed25519", "ecdsa-sha2-nistp256"] {
            let mut other = key.clone();
            (other["keytype"], other["scheme"]) = (keytype.into(), scheme.into());
            is_read(&other);
            verdict(&other, &signature, &signed);
        }
    }
}

#[test]
fn ed25519_in_hex_is_judged_alike() {
    let signer = Signer::ed25519();
    check_signer(&signer);
    let signature = signer.sign(&signed());
    let public = signer.key["keyval"]["public"].as_str().unwrap();
    let upper = signer.with_public(public.to_uppercase());
    assert!(is_read(&upper) && verdict(&upper, &signature, &signed()));
    let wrapped = signer.with_public(hex::encode(signer.der()));
    assert!(is_read(&wrapped) && verdict(&wrapped, &signature, &signed()));
    for public in [&public[2..], &format!("{public}00"), &format!(" {public}"), "zz"] {
        let other = signer.with_public(public);
        is_read(&other);
        assert!(!verdict(&other, &signature, &signed()));
    }
}

#[test]
fn ecdsa_in_pem_and_in_hex_is_judged_alike_under_both_key_types() {
    let signer = Signer::ecdsa(P256);
    check_signer(&signer);
    let signature = signer.sign(&signed());
    let der = signer.der();
    let point = hex::encode(&der[der.len() - 65..]);
    for public in [point.clone(), point.to_uppercase(), hex::encode(&der)] {
        let mut key = signer.with_public(public);
        assert!(is_read(&key) && verdict(&key, &signature, &signed()));
        key["keytype"] = "ecdsa-sha2-nistp256".into();
        assert!(is_read(&key) && verdict(&key, &signature, &signed()));
    }
}

#[test]
fn rsa_in_pem_is_judged_alike() {
    for generate in ["2048", "3072", "4096", "2048 -pkeyopt rsa_keygen_pubexp:3"] {
        check_signer(&Signer::rsa(generate, PSS));
    }
}

#[test]
fn keys_and_signatures_outside_the_scheme_are_refused_alike() {
    for signer in [
        Signer::rsa("1024", PSS),
        Signer::rsa("2048", "-sha256"),
        Signer::rsa("2048", "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:20"),
        Signer::rsa("2048", "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:max"),
        Signer::rsa("2048", "-sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest"),
        Signer::ecdsa("-pkeyopt ec_paramgen_curve:P-384"),
        Signer::ecdsa("-pkeyopt ec_paramgen_curve:secp256k1"),
        Signer::ecdsa("-pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit"),
    ] {
        is_read(&signer.key);
        assert!(!verdict(&signer.key, &signer.sign(&signed()), &signed()), "{}", signer.key);
    }
}

#[test]
fn pem_is_read_with_the_same_leniency() {
    for signer in [Signer::ecdsa(P256), Signer::rsa("2048", PSS)] {
        let signature = signer.sign(&signed());
        let pem = signer.key["keyval"]["public"].as_str().unwrap().to_owned();
        for (public, good) in [
            (pem.trim().to_owned(), true),
            (pem.replace('\n', "\r\n"), true),
            (format!("{pem}and more"), true),
            (pem.replace("PUBLIC KEY", "RSA PUBLIC KEY"), true),
            (pem.replacen("PUBLIC", "PRIVATE", 1), false),
            (pem.replace("-----END", "----END"), false),
            (pem.replace('=', ""), false),
            (hex::encode(&pem), false),
        ] {
            let key = signer.with_public(public);
            is_read(&key);
            let judged = verdict(&key, &signature, &signed());
            assert!(judged || !good, "{key}");
        }
        // Every byte of the wrapping, and what lies around it.
        let der = signer.der();
        let wrapping = der.len().min(40);
        for at in 0..wrapping {
            for flip in [1, 2, 0x80] {
                let mut other = der.clone();
                other[at] ^= flip;
                // A point in another form is the difference that is known: see below.
                if other.len() == P256_DER && at == P256_DER - 65 && matches!(other[at], 6 | 7) {
                    continue;
                }
                check_der(&signer, &other, &signature);
            }
        }
        for length in 0..wrapping {
            check_der(&signer, &der[..length], &signature);
        }
        check_der(&signer, &[&der[..], &[0]].concat(), &signature);
    }
}

fn check_der(signer: &Signer, der: &[u8], signature: &[u8]) {
    let key = signer.with_public(pem::encode(&pem::Pem::new("PUBLIC KEY", der)));
    is_read(&key);
    verdict(&key, signature, &signed());
}

/// Bytes of a public key on P-256 as SubjectPublicKeyInfo. Its last 65 are the point.
const P256_DER: usize = 91;

/// The one difference that is known: `ring` takes a point in its uncompressed form only, as every TUF implementation
/// writes it, and neither in the compressed nor in the hybrid one (SEC 1, section 2.3.3).
#[test]
fn ecdsa_point_in_another_form_is_a_key_to_tough_alone() {
    let signer = Signer::ecdsa(P256);
    let der = signer.der();
    assert_eq!((der.len(), der[P256_DER - 65]), (P256_DER, 4));
    let (x, y) = der[der.len() - 64..].split_at(32);
    let odd = y[31] % 2;
    let signature = signer.sign(&signed());
    for point in [[&[2 + odd], x].concat(), [&[6 + odd], x, y].concat()] {
        let key = signer.with_public(hex::encode(point));
        assert!(is_read(&key), "{key}");
        assert!(tough_verdict(&key, &signature, &signed()) && !our_verdict(&key, &signature, &signed()), "{key}");
    }
}

#[test]
fn our_own_keys_and_signatures_hold_for_tough() {
    let key = repo::Key::generate().unwrap();
    let mut document = repo::Document::new_targets("targets", "2030-01-01T00:00:00Z".parse().unwrap());
    document.sign([&key]);
    let (id, signature) = document.signatures[0].clone();
    assert_eq!(tough_id(&key.public().to_json()).unwrap().as_ref(), hex::decode(id).unwrap());
    let signed = Value::Object(document.signed.clone());
    assert!(verdict(&key.public().to_json(), &hex::decode(&signature).unwrap(), &signed));
    assert!(key.public().made(&signature, &document.canonical()));
    assert!(!key.public().made(&signature, b"other") && !key.public().made("zz", &document.canonical()));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_form_is_toughs(value in any_json()) {
        prop_assert_eq!(canonical(&value).ok(), Raw(&value).canonical_form().ok());
    }

    #[test]
    fn keys_of_any_shape_are_read_alike(
        keytype in prop::sample::select(vec!["rsa", "ed25519", "ecdsa", "ecdsa-sha2-nistp256", "x"]),
        scheme in prop::sample::select(vec!["rsassa-pss-sha256", "ed25519", "ecdsa-sha2-nistp256", "x"]),
        public in prop_oneof!["[0-9a-fA-F]{0,70}", any::<String>()],
        extra in any_json(),
        deeper in any_json(),
        name in any::<String>(),
    ) {
        let mut key = json!({"keyval": {"public": public}});
        key["keyval"][name.as_str()] = deeper;
        key[name.as_str()] = extra;
        (key["keytype"], key["scheme"]) = (keytype.into(), scheme.into());
        is_read(&key);
    }
}
