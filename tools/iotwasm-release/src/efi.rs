//! Secure Boot's variables as firmware takes them: lists of signatures, and the signed update around a list (UEFI
//! specification 2.10, sections 8.2.2 and 32.4.1). Pure: it signs nothing and reads no clock.

use iotwasm_firmware::Digest;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::error::Error;

/// A GUID as UEFI lays it out: the first three groups little-endian.
type Guid = [u8; 16];

const GLOBAL: Guid = guid(0x8be4_df61, 0x93ca, 0x11d2, [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);
const SECURITY_DATABASE: Guid = guid(0xd719_b2cb, 0x3d3a, 0x4596, [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]);
const CERT_X509: Guid = guid(0xa5c0_59a1, 0x94e4, 0x4aa7, [0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72]);
const CERT_SHA256: Guid = guid(0xc1c4_1626, 0x504c, 0x4092, [0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28]);
const CERT_PKCS7: Guid = guid(0x4aaf_d29d, 0x68df, 0x49ee, [0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7]);
/// Who is said to have put an entry into a list. Firmware shows it and compares it with nothing; always the same, so that
/// the same entry twice is one entry.
const OWNER: Guid = guid(0x69d1_5a09, 0x2b1c, 0x4c1f, [0x9f, 0x53, 0x1b, 0x1f, 0x0a, 0x86, 0x6e, 0xd4]);

/// Non-volatile, for boot and run time, changed only by what is signed with a time.
const ATTRIBUTES: u32 = 0x1 | 0x2 | 0x4 | 0x20;
/// Added to what is there, which stays.
const APPEND: u32 = 0x40;
const WIN_CERT_REVISION: u16 = 0x0200;
const WIN_CERT_TYPE_EFI_GUID: u16 = 0x0ef1;

const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> Guid {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

/// One of the four variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Variable {
    /// The platform key: changes itself and KEK. One certificate.
    #[value(name = "PK")]
    Pk,
    /// Keys that change db and dbx.
    #[value(name = "KEK")]
    Kek,
    /// What may be started.
    #[value(name = "db")]
    Db,
    /// What may not, whatever db says.
    #[value(name = "dbx")]
    Dbx,
}

impl Variable {
    fn name(self) -> &'static str {
        match self {
            Self::Pk => "PK",
            Self::Kek => "KEK",
            Self::Db => "db",
            Self::Dbx => "dbx",
        }
    }

    fn vendor(self) -> Guid {
        match self {
            Self::Pk | Self::Kek => GLOBAL,
            Self::Db | Self::Dbx => SECURITY_DATABASE,
        }
    }

    /// Whether a list of this kind and size can stand in it.
    pub(crate) fn check(self, certificates: usize, images: usize, append: bool) -> Result<(), Error> {
        let rule = match (self, certificates, images) {
            (_, 0, 0) => "would be empty; give certificates, or hashes of images",
            (Self::Pk, n, _) if n > 1 => "takes one certificate",
            (Self::Pk, ..) if append => "takes one certificate, so nothing can be appended to it",
            (Self::Pk | Self::Kek, _, 1..) => "takes certificates; hashes of images belong into db and dbx",
            _ => return Ok(()),
        };
        Err(Error::List { variable: self.name(), rule })
    }
}

/// A list of each kind that has entries: certificates in DER, Authenticode hashes of images.
pub(crate) fn signature_lists(certificates: &[Vec<u8>], images: &[Digest]) -> Vec<u8> {
    let mut lists = Vec::new();
    // Certificates differ in length, and a list holds entries of one length.
    for certificate in certificates {
        signature_list(&mut lists, CERT_X509, certificate.len(), &[certificate]);
    }
    if !images.is_empty() {
        let hashes: Vec<&[u8]> = images.iter().map(|image| &image.as_bytes()[..]).collect();
        signature_list(&mut lists, CERT_SHA256, 32, &hashes);
    }
    lists
}

/// EFI_SIGNATURE_LIST, without a header of its kind's own.
fn signature_list(out: &mut Vec<u8>, kind: Guid, length: usize, entries: &[impl AsRef<[u8]>]) {
    const HEAD: usize = 16 + 3 * 4;
    let entry = OWNER.len() + length;
    out.extend(kind);
    for number in [HEAD + entries.len() * entry, 0, entry] {
        out.extend((number as u32).to_le_bytes());
    }
    for data in entries {
        out.extend(OWNER);
        out.extend(data.as_ref());
    }
}

/// A change of a variable that is to be signed.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) variable: Variable,
    pub(crate) append: bool,
    pub(crate) time: Timestamp,
    pub(crate) lists: Vec<u8>,
}

impl Update {
    /// The bytes that the signature is over: name, vendor, attributes, time, content.
    pub(crate) fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.variable.name().encode_utf16().flat_map(u16::to_le_bytes).collect();
        bytes.extend(self.variable.vendor());
        bytes.extend((if self.append { ATTRIBUTES | APPEND } else { ATTRIBUTES }).to_le_bytes());
        bytes.extend(efi_time(self.time));
        bytes.extend(&self.lists);
        bytes
    }

    /// What is written to the variable: EFI_VARIABLE_AUTHENTICATION_2 with this signature (a CMS, DER), then the content.
    pub(crate) fn with_signature(&self, cms: &[u8]) -> Option<Vec<u8>> {
        const HEAD: usize = 4 + 2 + 2 + 16;
        let signed_data = signed_data(cms)?;
        let mut bytes = Vec::from(efi_time(self.time));
        bytes.extend(((HEAD + signed_data.len()) as u32).to_le_bytes());
        bytes.extend(WIN_CERT_REVISION.to_le_bytes());
        bytes.extend(WIN_CERT_TYPE_EFI_GUID.to_le_bytes());
        bytes.extend(CERT_PKCS7);
        bytes.extend(signed_data);
        bytes.extend(&self.lists);
        Some(bytes)
    }
}

/// EFI_TIME in UTC; the fields that a signed update wants to be zero are.
fn efi_time(time: Timestamp) -> [u8; 16] {
    let time = time.to_zoned(TimeZone::UTC);
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&time.year().to_le_bytes());
    for (byte, part) in
        bytes[2..7].iter_mut().zip([time.month(), time.day(), time.hour(), time.minute(), time.second()])
    {
        *byte = part.unsigned_abs();
    }
    bytes
}

/// The SignedData inside a ContentInfo: older firmware takes it only without that wrapper.
fn signed_data(cms: &[u8]) -> Option<&[u8]> {
    const OID: u8 = 0x06;
    const SEQUENCE: u8 = 0x30;
    const EXPLICIT_0: u8 = 0xa0;
    let (info, rest) = der(cms, SEQUENCE)?;
    let (_, wrapped) = der(info, OID)?;
    let (inner, _) = der(wrapped, EXPLICIT_0)?;
    der(inner, SEQUENCE)?;
    rest.is_empty().then_some(inner)
}

/// The contents of the element of that tag at the beginning, and what follows it.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        // More than four bytes of length is no signature of ours; 0x80 alone is BER.
        0x81..=0x84 => {
            let (number, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (number.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    if first == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(variable: Variable, append: bool) -> Update {
        let time = "2026-03-01T12:34:56Z".parse().unwrap();
        Update { variable, append, time, lists: signature_lists(&[vec![7; 300]], &[]) }
    }

    #[test]
    fn a_certificate_stands_in_a_list_of_its_own() {
        let lists = signature_lists(&[vec![1; 10], vec![2; 20]], &[]);
        assert_eq!(lists.len(), (28 + 16 + 10) + (28 + 16 + 20));
        // As efitools writes it: a5c059a1-94e4-4aa7-87b5-ab155c2bf072.
        assert_eq!(hex::encode(&lists[..16]), "a159c0a5e494a74a87b5ab155c2bf072");
        assert_eq!(lists[16..28], [54, 0, 0, 0, 0, 0, 0, 0, 26, 0, 0, 0]);
        assert_eq!(lists[28..44], OWNER);
        assert_eq!(lists[44..54], [1; 10]);
        assert_eq!(lists[54..70], CERT_X509);
    }

    #[test]
    fn images_share_a_list() {
        let lists = signature_lists(&[], &[Digest::of(b"a"), Digest::of(b"b")]);
        assert_eq!(hex::encode(&lists[..16]), "2616c4c14c509240aca941f936934328");
        assert_eq!(lists[16..28], [28 + 2 * 48, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0]);
        assert_eq!(lists[28 + 48 + 16..], *Digest::of(b"b").as_bytes());
    }

    #[test]
    fn the_signature_is_over_name_vendor_attributes_time_and_content() {
        let bytes = update(Variable::Db, false).signed_bytes();
        assert_eq!(bytes[..4], *b"d\0b\0");
        assert_eq!(hex::encode(&bytes[4..20]), "cbb219d73a3d9645a3bcdad00e67656f");
        assert_eq!(bytes[20..24], [0x27, 0, 0, 0]);
        assert_eq!(bytes[24..40], [0xea, 0x07, 3, 1, 12, 34, 56, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[40..], update(Variable::Db, false).lists);
        assert_eq!(update(Variable::Dbx, true).signed_bytes()[22..26], [0x67, 0, 0, 0]);
        assert_eq!(hex::encode(&update(Variable::Pk, false).signed_bytes()[4..20]), "61dfe48bca93d211aa0d00e098032b8c");
    }

    #[test]
    fn the_signature_goes_before_the_content_without_its_wrapper() {
        // ContentInfo: an object identifier, then SignedData of 200 bytes with a length in long form.
        let mut cms = vec![0x30, 0x81, 0xd1, 0x06, 0x01, 0x2a, 0xa0, 0x81, 0xcb, 0x30, 0x81, 0xc8];
        cms.extend([5; 200]);
        let update = update(Variable::Kek, false);
        let bytes = update.with_signature(&cms).unwrap();
        assert_eq!(bytes[..16], efi_time(update.time));
        assert_eq!(bytes[16..24], [24 + 203, 0, 0, 0, 0x00, 0x02, 0xf1, 0x0e]);
        assert_eq!(bytes[24..40], CERT_PKCS7);
        assert_eq!(bytes[40..43], [0x30, 0x81, 0xc8]);
        assert_eq!(bytes[40 + 203..], update.lists);
    }

    #[test]
    fn what_is_no_signature_is_not_taken_for_one() {
        let update = update(Variable::Kek, false);
        for bad in
            [&[][..], b"0", &[0x30, 0x80, 0, 0], &[0x30, 0x82, 0xff], &[0x30, 0x03, 0x06, 0x01, 0x2a], b"-----BEGIN"]
        {
            assert_eq!(update.with_signature(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_stand_in_a_variable_is_refused() {
        use Variable::{Db, Dbx, Kek, Pk};
        for (variable, certificates, images, append) in [
            (Pk, 0, 0, false),
            (Pk, 2, 0, false),
            (Pk, 1, 0, true),
            (Pk, 0, 1, false),
            (Kek, 1, 1, false),
            (Dbx, 0, 0, true),
        ] {
            assert!(variable.check(certificates, images, append).is_err(), "{variable:?} {certificates} {images}");
        }
        for (variable, certificates, images, append) in
            [(Pk, 1, 0, false), (Kek, 2, 0, true), (Db, 1, 1, false), (Dbx, 0, 3, true)]
        {
            assert!(variable.check(certificates, images, append).is_ok(), "{variable:?} {certificates} {images}");
        }
    }
}
